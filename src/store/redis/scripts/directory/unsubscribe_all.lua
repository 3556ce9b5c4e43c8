-- Takes a topic that was deleted in the home lane out of all subscriptions of another lane. ARGV: topic,
-- its end.

forget_topic(ARGV[1], tonumber(ARGV[2]))
return 'done'
