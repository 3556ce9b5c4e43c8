//! The Lua scripts that the store runs. Each is put together from what it shares with others and its
//! own part; `common.lua`, which lists the keys, comes first. `scripts/` has a folder for each part of the
//! store.

use fred::error::Error;
use fred::types::scripts::Script;

/// Puts a script together. `allow-oom` is for scripts that free memory: they must work when
/// Redis has none left. The others are refused as a whole then, before they change anything.
macro_rules! script {
    ($flags:literal, $($file:literal),+) => {
        Script::from_lua(concat!(
            "#!lua", $flags, "\n",
            include_str!("scripts/common.lua"),
            $(include_str!(concat!("scripts/", $file, ".lua"))),+
        ))
    };
}
pub(super) use script;

pub struct Scripts {
    pub publish: Script,
    pub claim: Script,
    pub settle: Script,
    pub renew: Script,
    pub step_window: Script,
    pub close_window: Script,
    pub behind_window: Script,
    pub entities_aside: Script,
    pub events_aside: Script,
    pub subscribe: Script,
    pub unsubscribe: Script,
    pub unsubscribe_topic: Script,
    pub delete_topic: Script,
    pub topics: Script,
    pub subscriptions: Script,
    pub set_keep: Script,
    pub kept_events: Script,
    pub replay: Script,
    pub subscribe_from: Script,
    pub forget_kept: Script,
    pub pull: Script,
    pub finish_pulled: Script,
    pub pause: Script,
    pub resume: Script,
    pub retry_now: Script,
    pub peek: Script,
    pub skip: Script,
    pub list_dead: Script,
    pub dead_event: Script,
    pub take_dead: Script,
    pub forget_dead: Script,
    pub due_batches: Script,
    pub ping: Script,
    pub rights: Script,
    pub drop_oldest: Script,
    pub droppable: Script,
    pub drop_expired: Script,
    pub take_duty: Script,
    pub accept_calls: Script,
    pub claim_calls: Script,
    pub due_calls: Script,
    pub destinations: Script,
    pub settle_calls: Script,
    pub call_status: Script,
    pub calls_before: Script,
    pub call_counts: Script,
    pub renew_calls: Script,
    pub retry_calls: Script,
    pub cancel_calls: Script,
    pub forget_calls: Script,
    pub journal_append: Script,
    pub journal_before: Script,
    pub journal_erase: Script,
    pub others: Script,
    pub add_tallies: Script,
    pub tallies: Script,
    pub announce: Script,
    pub drain: Script,
    pub processes: Script,
    pub lanes: Script,
    pub format_2: Script,
    pub set_format: Script,
    pub require_topics: Script,
    pub topic_births: Script,
    pub unsubscribe_all: Script,
    pub add_api_token: Script,
    pub delete_api_token: Script,
    pub set_publisher: Script,
    pub set_client_secrets: Script,
    pub add_message_topic: Script,
    pub remove_message_topic: Script,
    pub add_message_publisher: Script,
    pub change_message_publisher: Script,
    pub remove_message_publisher: Script,
    pub accept_messages: Script,
    pub forget_once: Script,
    pub message_status: Script,
    pub messages_before: Script,
    pub message_counts: Script,
    pub forget_messages: Script,
    pub erase_messages: Script,
    pub discard_deliveries: Script,
    pub catch_up: Script,
    pub publishers_behind: Script,
    pub closed_messages: Script,
    pub forget_closed: Script,
}

impl Scripts {
    pub fn new() -> Self {
        Self {
            publish: script!(
                "",
                "lanes/lane_count",
                "directory/births",
                "directory/subscribed",
                "queues/due",
                "queues/publish"
            ),
            claim: script!(" flags=allow-oom", "queues/queue", "queues/claim"),
            settle: script!(
                " flags=allow-oom",
                "queues/due",
                "queues/queue",
                "dead_events/dead",
                "queues/settle"
            ),
            renew: script!(" flags=allow-oom", "queues/renew"),
            step_window: script!(
                " flags=allow-oom",
                "queues/queue",
                "dead_events/dead",
                "entity_order/aside",
                "entity_order/step"
            ),
            close_window: script!(
                " flags=allow-oom",
                "queues/due",
                "entity_order/aside",
                "entity_order/close"
            ),
            behind_window: script!(" flags=no-writes", "entity_order/behind"),
            entities_aside: script!(
                " flags=no-writes",
                "entity_order/aside",
                "entity_order/entities"
            ),
            events_aside: script!(" flags=no-writes", "entity_order/aside", "entity_order/events"),
            subscribe: script!(
                "",
                "queues/due",
                "control/find",
                "entity_order/aside",
                "directory/births",
                "directory/subscribed",
                "directory/unknown_topic",
                "directory/subscribe"
            ),
            unsubscribe: script!(" flags=allow-oom", "entity_order/aside", "directory/unsubscribe"),
            unsubscribe_topic: script!(
                " flags=allow-oom",
                "directory/subscribed",
                "directory/unsubscribe_topic"
            ),
            delete_topic: script!(
                " flags=allow-oom",
                "directory/births",
                "directory/subscribed",
                "directory/forget_topic",
                "directory/delete_topic"
            ),
            topics: script!(" flags=no-writes", "directory/topics"),
            subscriptions: script!(
                " flags=no-writes",
                "entity_order/aside",
                "directory/subscriptions"
            ),
            set_keep: script!("", "kept_events/set_keep"),
            kept_events: script!(
                " flags=no-writes",
                "control/find",
                "kept_events/kept",
                "kept_events/kept_events"
            ),
            replay: script!("", "queues/due", "queues/append", "kept_events/replay"),
            subscribe_from: script!(
                "",
                "queues/due",
                "queues/append",
                "directory/subscribed",
                "control/find",
                "kept_events/kept",
                "kept_events/subscribe_from"
            ),
            forget_kept: script!(
                " flags=allow-oom",
                "control/find",
                "kept_events/kept",
                "kept_events/forget_kept"
            ),
            pull: script!(" flags=allow-oom", "queues/queue", "pulls/pulled", "pulls/pull"),
            finish_pulled: script!(" flags=allow-oom", "pulls/pulled", "pulls/finish_pulled"),
            pause: script!(" flags=allow-oom", "control/pause"),
            resume: script!(" flags=allow-oom", "queues/due", "control/resume"),
            retry_now: script!(" flags=allow-oom", "control/retry_now"),
            peek: script!(" flags=no-writes", "control/find", "entity_order/aside", "control/peek"),
            skip: script!(
                " flags=allow-oom",
                "queues/due",
                "control/find",
                "dead_events/dead",
                "entity_order/aside",
                "control/skip"
            ),
            list_dead: script!(" flags=no-writes", "dead_events/dead", "dead_events/list_dead"),
            dead_event: script!(" flags=no-writes", "dead_events/dead", "dead_events/dead_event"),
            take_dead: script!(
                " flags=allow-oom",
                "queues/due",
                "queues/append",
                "dead_events/dead",
                "dead_events/take_dead"
            ),
            forget_dead: script!(" flags=allow-oom", "dead_events/dead", "dead_events/forget_dead"),
            due_batches: script!(" flags=no-writes", "queues/due_batches"),
            ping: script!(" flags=allow-oom", "ping"),
            rights: script!(" flags=allow-oom", "rights"),
            drop_oldest: script!(" flags=allow-oom", "queues/due", "room/trim", "room/drop_oldest"),
            droppable: script!(" flags=no-writes", "queues/due", "room/trim", "room/droppable"),
            drop_expired: script!(
                " flags=allow-oom",
                "queues/due",
                "room/trim",
                "room/drop_expired"
            ),
            take_duty: script!(" flags=allow-oom", "duties/take_duty"),
            accept_calls: script!("", "calls/call", "calls/accept"),
            claim_calls: script!(
                " flags=allow-oom",
                "calls/call",
                "calls/places",
                "calls/claim_calls"
            ),
            due_calls: script!(" flags=no-writes", "calls/call", "calls/places", "calls/due_calls"),
            settle_calls: script!(" flags=allow-oom", "calls/call", "calls/settle_calls"),
            destinations: script!(" flags=no-writes", "calls/call", "calls/destinations"),
            call_status: script!(" flags=no-writes", "calls/call", "calls/call_status"),
            calls_before: script!(" flags=no-writes", "calls/call", "calls/calls_before"),
            call_counts: script!(" flags=no-writes", "calls/call", "calls/call_counts"),
            renew_calls: script!(" flags=allow-oom", "calls/call", "calls/renew_calls"),
            retry_calls: script!(" flags=allow-oom", "calls/call", "calls/retry_calls"),
            cancel_calls: script!(" flags=allow-oom", "calls/call", "calls/cancel_calls"),
            forget_calls: script!(" flags=allow-oom", "calls/call", "calls/forget_calls"),
            journal_append: script!("", "journal/append"),
            journal_before: script!(" flags=no-writes", "journal/before"),
            journal_erase: script!(" flags=allow-oom", "journal/erase"),
            others: script!(" flags=no-writes", "room/others"),
            add_tallies: script!("", "tallies/add_tallies"),
            tallies: script!(" flags=no-writes", "tallies/tallies"),
            drain: script!(" flags=allow-oom", "processes/drain"),
            announce: script!(" flags=allow-oom", "processes/announce"),
            processes: script!(" flags=no-writes", "processes/processes"),
            lanes: script!(" flags=allow-oom", "lanes/lanes"),
            format_2: script!(" flags=allow-oom", "lanes/format_2"),
            set_format: script!(" flags=allow-oom", "lanes/set_format"),
            require_topics: script!(
                "",
                "lanes/lane_count",
                "directory/births",
                "directory/unknown_topic",
                "directory/require_topics"
            ),
            topic_births: script!(" flags=no-writes", "directory/births", "directory/topic_births"),
            unsubscribe_all: script!(
                " flags=allow-oom",
                "directory/subscribed",
                "directory/forget_topic",
                "directory/unsubscribe_all"
            ),
            add_api_token: script!("", "directory/add_api_token"),
            delete_api_token: script!(" flags=allow-oom", "directory/delete_api_token"),
            set_publisher: script!("", "directory/births", "directory/set_publisher"),
            set_client_secrets: script!("", "directory/set_client_secrets"),
            add_message_topic: script!("", "message_topics/topics", "message_topics/add_topic"),
            remove_message_topic: script!(
                " flags=allow-oom",
                "message_topics/topics",
                "message_topics/remove_topic"
            ),
            add_message_publisher: script!(
                "",
                "message_topics/topics",
                "message_topics/add_publisher"
            ),
            change_message_publisher: script!(
                "",
                "calls/call",
                "message_topics/topics",
                "message_topics/change_publisher"
            ),
            accept_messages: script!(
                "",
                "calls/call",
                "messages/message",
                "messages/accept_messages"
            ),
            forget_once: script!(" flags=allow-oom", "messages/forget_once"),
            message_status: script!(
                " flags=no-writes",
                "calls/call",
                "messages/message",
                "messages/message_status"
            ),
            messages_before: script!(
                " flags=no-writes",
                "calls/call",
                "messages/message",
                "messages/messages_before"
            ),
            message_counts: script!(
                " flags=no-writes",
                "calls/call",
                "messages/message",
                "messages/message_counts"
            ),
            forget_messages: script!(
                " flags=allow-oom",
                "calls/call",
                "messages/message",
                "messages/forget_messages"
            ),
            erase_messages: script!(
                " flags=allow-oom",
                "calls/call",
                "messages/message",
                "messages/erase_messages"
            ),
            discard_deliveries: script!(
                " flags=allow-oom",
                "calls/call",
                "messages/message",
                "messages/discard_deliveries"
            ),
            catch_up: script!("", "calls/call", "messages/message", "messages/catch_up"),
            publishers_behind: script!(
                " flags=no-writes",
                "calls/call",
                "messages/message",
                "messages/publishers_behind"
            ),
            closed_messages: script!(
                " flags=no-writes",
                "calls/call",
                "messages/message",
                "messages/closed_messages"
            ),
            forget_closed: script!(
                " flags=allow-oom",
                "calls/call",
                "messages/message",
                "messages/forget_closed"
            ),
            remove_message_publisher: script!(
                " flags=allow-oom",
                "message_topics/topics",
                "message_topics/remove_publisher"
            ),
        }
    }
}

/// Whether a server says that it does not have a script.
pub fn is_not_loaded(error: &Error) -> bool {
    error.details().starts_with("NOSCRIPT")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    /// The commands that follow a word in all scripts below a folder.
    fn commands_after(word: &str, folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                commands_after(word, &entry, found);
                continue;
            }
            let text = fs::read_to_string(&entry).unwrap();
            for rest in text.split(word).skip(1) {
                found.extend(rest.split('\'').next().map(str::to_owned));
            }
        }
    }

    #[test]
    fn rights_are_asked_for_all_that_any_script_does() {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/redis/scripts");
        let (mut used, mut tried) = (BTreeSet::new(), BTreeSet::new());
        commands_after("redis.call('", &scripts, &mut used);
        commands_after("redis.pcall('", &scripts, &mut used);
        commands_after("try('", &scripts, &mut tried);
        assert!(used.len() > 20, "{used:?}");
        let missing: Vec<_> = used.difference(&tried).collect();
        assert!(missing.is_empty(), "scripts/rights.lua does not try {missing:?}");
    }
}
