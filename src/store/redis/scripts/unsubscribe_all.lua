-- Takes a topic that was deleted in the home lane out of all subscriptions of another lane. ARGV: topic,
-- the birth of the youngest topic that there was then.

forget_topic(ARGV[1], tonumber(ARGV[2]))
return 'done'
