-- Takes a topic out of all subscriptions of a lane. ARGV: topic.

forget_topic(ARGV[1])
return 'done'
