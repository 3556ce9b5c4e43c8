//! What of a window is sent when: no entity has two batches on their way, one that fails is found among others and set
//! aside, and everybody else goes on (contract §3). It knows no store, no network and no clock.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::bus::batch::MAX_BATCH_BYTES;
use crate::bus::entity::Entity;
use crate::bus::item::QueuedItem;
use crate::store::{AsideEntity, BYTES_ASIDE_MAX, ENTITIES_ASIDE_MAX, EVENTS_ASIDE_MAX};

/// The events of a queue that this worker has in hand, in the order of the queue, as the store has them too.
pub struct HeldWindow {
    slots: VecDeque<Slot>,
    /// Entities of a batch that was refused, of which one may be such that it always is: each goes out by itself.
    suspects: VecDeque<HashSet<Entity>>,
    /// The batches of suspects that are on their way.
    suspects_out: HashSet<u64>,
    aside: HashMap<Entity, Aside>,
    next_batch: u64,
}

struct Slot {
    item: QueuedItem,
    entity: Entity,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    /// On its way, in the batch of this number.
    Out(u64),
    Done,
    /// To be set aside with the next step.
    Aside,
}

/// An entity that is set aside.
#[derive(Clone, Debug, Default)]
pub struct Aside {
    /// How many events of it are.
    pub events: usize,
    /// What they take.
    pub bytes: usize,
    pub attempts: u32,
    /// When it is to be tried again, in milliseconds of the caller's clock.
    pub due_ms: u64,
    pub is_out: bool,
    /// The number of the batch that failed, and how many events it has: it comes again as it was.
    pub batch: Option<(u64, usize)>,
}

/// Something to send.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// A batch of events of the window.
    Window { number: u64, items: Vec<QueuedItem> },
    /// The first events of an entity that is set aside: so many at most.
    Aside { entity: Entity, number: u64, limit: usize, attempt: u32 },
}

/// What to record of a window: places in it, from 0.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Gone {
    pub done: Vec<usize>,
    pub aside: Vec<(usize, Entity)>,
}

/// How batches are made.
#[derive(Clone, Copy)]
pub struct BatchRules {
    /// Events at most.
    pub max: usize,
    /// How long an event waits for others, in milliseconds.
    pub timeout_ms: u64,
    /// How many batches of entities that are set aside are on their way at once at most, so that those who wait for an
    /// answer leave room for the others.
    pub aside_max: usize,
    /// After how many attempts at an entity that is set aside one event is tried alone, to find the one that is refused.
    pub alone_after: Option<u32>,
}

impl HeldWindow {
    pub fn new(items: Vec<QueuedItem>, aside: Vec<AsideEntity>, now_ms: u64) -> Self {
        let mut window = Self {
            slots: VecDeque::new(),
            suspects: VecDeque::new(),
            suspects_out: HashSet::new(),
            aside: HashMap::new(),
            next_batch: 1,
        };
        for one in aside {
            let due_ms = now_ms + one.due_in.as_millis() as u64;
            let (events, bytes) = (one.events, one.bytes);
            let state = Aside { events, bytes, due_ms, attempts: one.attempts, ..Aside::default() };
            window.aside.insert(one.entity, state);
        }
        window.extend(items);
        window
    }

    /// Adds what stands behind it.
    pub fn extend(&mut self, items: Vec<QueuedItem>) {
        self.slots.extend(items.into_iter().map(|item| {
            let entity = Entity::of(&item.item);
            Slot { item, entity, state: State::Waiting }
        }));
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// What its events take, in bytes.
    pub fn bytes(&self) -> usize {
        self.slots.iter().map(|slot| slot.item.item.len()).sum()
    }

    /// Whether entities are set aside.
    pub fn has_aside(&self) -> bool {
        !self.aside.is_empty()
    }

    pub fn aside(&mut self, entity: &Entity) -> Option<&mut Aside> {
        self.aside.get_mut(entity)
    }

    /// What goes out next, if something may at this time.
    pub fn next(&mut self, rules: BatchRules, now_ms: u64) -> Option<Next> {
        self.next_aside(rules, now_ms).or_else(|| self.next_of_window(rules, now_ms))
    }

    fn next_aside(&mut self, rules: BatchRules, now_ms: u64) -> Option<Next> {
        if self.has_enough_aside_out(rules) {
            return None;
        }
        let due = self
            .aside
            .iter_mut()
            .filter(|(_, aside)| !aside.is_out && aside.events > 0 && aside.due_ms <= now_ms);
        let (entity, aside) = due.min_by_key(|(_, aside)| aside.due_ms)?;
        aside.is_out = true;
        let is_alone = rules.alone_after.is_some_and(|after| aside.attempts >= after);
        let limit = if is_alone { 1 } else { rules.max };
        let (number, limit) =
            aside.batch.filter(|(_, events)| *events <= limit).unwrap_or_else(|| {
                self.next_batch += 1;
                (self.next_batch - 1, limit)
            });
        let attempt = aside.attempts + 1;
        Some(Next::Aside { entity: entity.clone(), number, limit, attempt })
    }

    fn next_of_window(&mut self, rules: BatchRules, now_ms: u64) -> Option<Next> {
        self.mark_aside();
        while let Some(suspects) = self.suspects.pop_front() {
            if let Some((number, items)) = self.choose(Some(&suspects), rules, now_ms) {
                self.suspects_out.insert(number);
                return Some(Next::Window { number, items });
            }
        }
        let (number, items) = self.choose(None, rules, now_ms)?;
        Some(Next::Window { number, items })
    }

    /// A batch of what waits of these entities, or of all that are not suspected; and its number.
    fn choose(
        &mut self,
        suspects: Option<&HashSet<Entity>>,
        rules: BatchRules,
        now_ms: u64,
    ) -> Option<(u64, Vec<QueuedItem>)> {
        let suspected: HashSet<&Entity> = self.suspects.iter().flatten().collect();
        // In front of these of the same entity, something is on its way or stays.
        let mut blocked = HashSet::new();
        let (mut chosen, mut bytes, mut oldest_ms) = (Vec::new(), 0, u64::MAX);
        for (place, slot) in self.slots.iter().enumerate() {
            let is_asked_for = match suspects {
                Some(suspects) => suspects.contains(&slot.entity),
                None => !suspected.contains(&slot.entity),
            } && !self.aside.contains_key(&slot.entity);
            match slot.state {
                State::Done => continue,
                State::Waiting if is_asked_for && !blocked.contains(&slot.entity) => {}
                _ => {
                    blocked.insert(&slot.entity);
                    continue;
                }
            }
            bytes += slot.item.item.len();
            if chosen.len() == rules.max || (bytes > MAX_BATCH_BYTES && !chosen.is_empty()) {
                break;
            }
            chosen.push(place);
            oldest_ms = oldest_ms.min(slot.item.position.at_ms());
        }
        let is_full = chosen.len() == rules.max || bytes > MAX_BATCH_BYTES;
        let is_due =
            is_full || suspects.is_some() || oldest_ms.saturating_add(rules.timeout_ms) <= now_ms;
        if chosen.is_empty() || !is_due {
            return None;
        }
        let number = self.next_batch;
        self.next_batch += 1;
        let items = chosen.into_iter().map(|place| {
            self.slots[place].state = State::Out(number);
            self.slots[place].item.clone()
        });
        Some((number, items.collect()))
    }

    /// How many events are set aside, and what they take.
    fn taken_aside(&self) -> (usize, usize) {
        let all = self.aside.values();
        all.fold((0, 0), |(events, bytes), one| (events + one.events, bytes + one.bytes))
    }

    /// Marks what waits of entities that are set aside, as long as there is room for it.
    fn mark_aside(&mut self) {
        let (mut events, mut bytes) = self.taken_aside();
        for slot in self.slots.iter_mut().filter(|slot| slot.state == State::Waiting) {
            let Some(aside) = self.aside.get_mut(&slot.entity) else { continue };
            // What comes behind an event that stays must stay as well.
            if !has_room(events, bytes) {
                break;
            }
            slot.state = State::Aside;
            let size = slot.item.item.len();
            (aside.events, aside.bytes) = (aside.events + 1, aside.bytes + size);
            (events, bytes) = (events + 1, bytes + size);
        }
    }

    fn has_enough_aside_out(&self, rules: BatchRules) -> bool {
        self.aside.values().filter(|aside| aside.is_out).count() >= rules.aside_max
    }

    /// When something that waits here may go out, in milliseconds, later than now; `None` if that depends on what is on
    /// its way.
    pub fn wakes_at_ms(&self, rules: BatchRules, now_ms: u64) -> Option<u64> {
        let has_room = !self.has_enough_aside_out(rules);
        let may_go = |aside: &&Aside| has_room && !aside.is_out && aside.events > 0;
        let aside = self.aside.values().filter(may_go);
        // One that has become due just now is sent at the next look.
        let aside = aside.map(|aside| aside.due_ms.max(now_ms + 1)).min();
        let waiting = self.slots.iter().filter(|slot| slot.state == State::Waiting);
        let waiting =
            waiting.map(|slot| slot.item.position.at_ms().saturating_add(rules.timeout_ms));
        // What could go before, and has not, stands behind something that is on its way.
        aside.into_iter().chain(waiting.filter(|at| *at > now_ms).min()).min()
    }

    /// A batch of the window was acknowledged.
    pub fn acknowledged(&mut self, number: u64) {
        self.set(number, State::Done);
    }

    /// A batch of the window was not taken, through no fault of its events.
    pub fn returned(&mut self, number: u64) {
        self.set(number, State::Waiting);
    }

    /// A batch of the window was refused: its entities are tried by halves, and one alone is set aside until `due_ms`.
    /// `false` if there is no room for that: then it holds up all.
    pub fn refused(&mut self, number: u64, due_ms: u64) -> bool {
        let mut entities = Vec::new();
        for slot in self.slots.iter().filter(|slot| slot.state == State::Out(number)) {
            if !entities.contains(&slot.entity) {
                entities.push(slot.entity.clone());
            }
        }
        self.set(number, State::Waiting);
        if let [entity] = &entities[..] {
            let (events, bytes) = self.taken_aside();
            if self.aside.len() >= ENTITIES_ASIDE_MAX || !has_room(events, bytes) {
                return false;
            }
            let aside = Aside { attempts: 1, due_ms, ..Aside::default() };
            self.aside.insert(entity.clone(), aside);
            self.mark_aside();
            return true;
        }
        let second = entities.split_off(entities.len() / 2);
        self.suspects.extend([entities, second].map(|half| half.into_iter().collect()));
        true
    }

    /// Whether something was refused with others, and it is not known yet which of them.
    pub fn is_searching(&self) -> bool {
        !self.suspects.is_empty() || !self.suspects_out.is_empty()
    }

    fn set(&mut self, number: u64, state: State) {
        self.suspects_out.remove(&number);
        for slot in self.slots.iter_mut().filter(|slot| slot.state == State::Out(number)) {
            slot.state = state;
        }
    }

    /// The first events of an entity that is set aside are done, or gone.
    pub fn aside_went(&mut self, entity: &Entity, events: usize) {
        let Some(aside) = self.aside.get_mut(entity) else { return };
        let events = events.min(aside.events);
        let bytes = (aside.bytes * events).checked_div(aside.events).unwrap_or(0);
        (aside.events, aside.bytes) = (aside.events - events, aside.bytes - bytes);
        if aside.events == 0 {
            self.aside.remove(entity);
        }
    }

    /// What is to be recorded. Until [`Self::recorded`], nothing else may change.
    pub fn gone(&mut self) -> Gone {
        self.mark_aside();
        let mut places = Gone::default();
        for (place, slot) in self.slots.iter().enumerate() {
            match slot.state {
                State::Done => places.done.push(place),
                State::Aside => places.aside.push((place, slot.entity.clone())),
                State::Waiting | State::Out(_) => {}
            }
        }
        places
    }

    /// It is recorded: what is done or set aside is no part of the window any more.
    pub fn recorded(&mut self) {
        self.slots.retain(|slot| !matches!(slot.state, State::Done | State::Aside));
    }
}

/// Whether more may be set aside than these events, which take so many bytes.
fn has_room(events: usize, bytes: usize) -> bool {
    events < EVENTS_ASIDE_MAX && bytes < BYTES_ASIDE_MAX
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::bus::position::EventPosition;

    const RULES: BatchRules = BatchRules { max: 3, timeout_ms: 0, aside_max: 1, alone_after: None };

    /// An event of an entity, a letter, with a number.
    fn event(name: &str) -> QueuedItem {
        let json =
            format!(r#"{{"topic":"t","type":"noop","url":"{}","t":{}}}"#, &name[..1], &name[1..]);
        QueuedItem { position: EventPosition::of_time(1), item: Bytes::from(json) }
    }

    fn events(names: &str) -> Vec<QueuedItem> {
        names.split_whitespace().map(event).collect()
    }

    fn entity(name: &str) -> Entity {
        Entity::of(&event(&format!("{name}0")).item)
    }

    /// The next batch of the window must have these events; its number.
    fn expect(window: &mut HeldWindow, names: &str) -> u64 {
        match window.next(RULES, 1_000) {
            Some(Next::Window { number, items }) => {
                assert_eq!(items, events(names));
                number
            }
            other => panic!("{names} is expected: {other:?}"),
        }
    }

    #[test]
    fn no_entity_has_two_batches_on_their_way_and_the_others_go_on() {
        let mut window = HeldWindow::new(events("a1 b1 a2 b2 a3 c1 b3 d1"), vec![], 0);
        let first = expect(&mut window, "a1 b1 a2");
        let second = expect(&mut window, "c1 d1");
        assert_eq!(window.next(RULES, 1_000), None);
        window.acknowledged(second);
        assert_eq!(window.next(RULES, 1_000), None);
        assert_eq!(window.gone().done, [5, 7]);
        window.recorded();
        window.acknowledged(first);
        assert_eq!(window.gone().done, [0, 1, 2]);
        window.recorded();
        window.extend(events("a4"));
        expect(&mut window, "b2 a3 b3");
        assert_eq!(window.next(RULES, 1_000), None);
        assert_eq!(window.len(), 4);
    }

    #[test]
    fn an_entity_that_is_refused_is_found_and_set_aside_with_all_that_comes_behind() {
        let mut window = HeldWindow::new(events("a1 b1 c1 b2 d1"), vec![], 0);
        let number = expect(&mut window, "a1 b1 c1");
        assert!(window.refused(number, 5_000));
        let half = expect(&mut window, "a1");
        assert!(window.is_searching());
        let other = expect(&mut window, "b1 c1 b2");
        window.acknowledged(half);
        assert!(window.refused(other, 5_000));
        let culprit = expect(&mut window, "b1 b2");
        let innocent = expect(&mut window, "c1");
        assert!(window.refused(culprit, 5_000));
        window.acknowledged(innocent);
        assert!(!window.is_searching());
        expect(&mut window, "d1");
        window.extend(events("b3 c2"));
        let recorded = window.gone();
        let b = entity("b");
        assert_eq!(recorded.done, [0, 2]);
        assert_eq!(recorded.aside, [(1, b.clone()), (3, b.clone()), (5, b.clone())]);
        window.recorded();
        expect(&mut window, "c2");
        assert_eq!(window.next(RULES, 4_999), None);
        let next = Next::Aside { entity: b.clone(), number: 8, limit: 3, attempt: 2 };
        assert_eq!(window.next(RULES, 5_000), Some(next));
        assert_eq!(window.next(RULES, 5_000), None, "it is on its way");
        window.aside_went(&b, 3);
        window.extend(events("b4"));
        expect(&mut window, "b4");
    }

    #[test]
    fn what_waits_for_company_does_so_unless_the_batch_is_full() {
        let rules = BatchRules { max: 3, timeout_ms: 500, aside_max: 1, alone_after: None };
        let mut window = HeldWindow::new(events("a1 b1"), vec![], 0);
        assert_eq!(window.next(rules, 500), None);
        assert_eq!(window.wakes_at_ms(rules, 500), Some(501));
        window.extend(events("c1 d1"));
        assert!(matches!(window.next(rules, 500), Some(Next::Window { .. })));
        assert_eq!(window.next(rules, 500), None);
        assert!(matches!(window.next(rules, 501), Some(Next::Window { .. })));
    }

    #[test]
    fn what_was_set_aside_before_is_taken_up_again() {
        let b = entity("b");
        let due_in = std::time::Duration::from_secs(1);
        let aside = AsideEntity { entity: b.clone(), events: 2, bytes: 200, attempts: 4, due_in };
        let mut window = HeldWindow::new(events("a1 b3"), vec![aside], 10);
        expect(&mut window, "a1");
        assert_eq!(window.gone().aside, [(1, b.clone())]);
        window.recorded();
        assert_eq!(window.wakes_at_ms(RULES, 500), Some(1_010));
        let next = Next::Aside { entity: b, number: 2, limit: 3, attempt: 5 };
        assert_eq!(window.next(RULES, 1_010), Some(next));
    }

    #[test]
    fn with_too_much_aside_an_entity_that_fails_holds_up_its_own_events_in_the_window() {
        let b = entity("b");
        let due_in = std::time::Duration::ZERO;
        let bytes = BYTES_ASIDE_MAX;
        let full = AsideEntity { entity: b, events: 2, bytes, attempts: 1, due_in };
        let mut window = HeldWindow::new(events("b1 a1 c1"), vec![full], 0);
        assert!(matches!(window.next(RULES, 1), Some(Next::Aside { .. })));
        assert_eq!(window.gone(), Gone::default());
        let number = expect(&mut window, "a1 c1");
        window.returned(number);
        let number = expect(&mut window, "a1 c1");
        assert!(window.refused(number, 5_000));
        let number = expect(&mut window, "a1");
        assert!(!window.refused(number, 5_000), "it cannot be set aside");
    }
}
