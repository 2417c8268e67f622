//! Whose turn it is at the disk: what was asked for by a client goes at once, and everything else in the shares that its
//! weight says.
//!
//! Start-time fair queueing, with a bounded number of bytes under way (Goyal, Vin and Cheng, SIGCOMM 1996; with several
//! under way: Jin, Chase and Kaur, "Interposed proportional sharing for a storage service utility", SIGMETRICS 2004).
//! Each class of work has a tag that goes on with what it was given, the slower the greater its weight is; who waits with
//! the lowest tag is next. Two things are otherwise here:
//!
//! - Clients never wait. What they do moves their tag on, and while any of it is under way nobody whose tag is ahead of
//!   theirs begins: so the others have their weight of what the disk does beside clients, and all that clients leave.
//! - While no client has had anything to do with the disk for [`QUIET_AFTER`], nobody waits for anything.
//!
//! Whatever clients and others do, a class that waits has a turn every [`PATIENCE`], unless it is in its own way: then every
//! [`PATIENCE_WITH_ITSELF`].

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// Bytes of background work under way at once while clients have work, unless a single piece is larger or clients have more
/// under way themselves, and but for what lost its patience. A client that comes finds so much on the way to the disk before
/// it. More: it waits longer. Fewer: a fast disk has nothing to do while a sync is answered.
pub const UNDER_WAY_MAX: u64 = 4 * 1024 * 1024;
/// What a piece of work counts as at the least: the disk has to go there.
pub const PIECE_MIN: u64 = 64 * 1024;
/// How long after the last work of a client others stop to wait. Shorter: they fill the disk between two requests of a
/// client. Longer: they go on at a lower rate for longer than anybody has a use for it.
pub const QUIET_AFTER: Duration = Duration::from_secs(1);
/// How long a class waits for a turn, whatever clients do. Shorter: less of the disk is for clients where it is so slow
/// that a turn takes nearly as long. Longer: peers take a stream for dead that waits so long for each of its pieces.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// How long a class waits for room that it has itself: what it has under way takes that long. Shorter: it adds piece after piece
/// to the queue of a disk that does not get on with what it has. Longer: peers take a stream for dead whose piece waits behind
/// a large body of another one.
pub const PATIENCE_WITH_ITSELF: Duration = Duration::from_secs(8);
/// Pieces of work of a class that wait; further ones do not, and are counted. There are as many as requests of peers and
/// to them are under way, which other limits keep far below.
pub const WAITING_MAX: usize = 1024;

/// The weight of what clients ask for.
pub const CLIENTS: u64 = 6;

/// What the weights divide: tags are whole numbers.
const SCALE: u64 = 6;
/// How far the tag of clients is ahead of who waits, at the most. They do not wait, so where they come to more than
/// their weight it runs away; what is beyond this is not made up for later.
const AHEAD_MAX: u64 = UNDER_WAY_MAX * SCALE;

/// Work that no client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Reading bodies that peers asked for.
    Serving,
    /// Writing bodies that came from peers: what is caught up with, and what they write now.
    Replicas,
    /// Reading all that is stored.
    Scrub,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Serving, Self::Replicas, Self::Scrub];

    /// Its part of the disk, in the parts that [`CLIENTS`] has six of. A class that clients alone compete with has a
    /// quarter, as peers have of the network; the scrub a seventh.
    #[must_use]
    pub fn weight(self) -> u64 {
        match self {
            Self::Serving | Self::Replicas => 2,
            Self::Scrub => 1,
        }
    }

    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Replicas => "replicas",
            Self::Scrub => "scrub",
        }
    }
}

/// A piece of work that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket {
    class: Class,
    number: u64,
}

/// What becomes of a piece of work that asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It begins now, and no client has work.
    Alone,
    /// It waits until [`Shares::next`] names it.
    Waits(Ticket),
    /// Too much waits: it begins now, out of turn.
    OutOfTurn,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    number: u64,
    cost: u64,
    asked: Duration,
    tag: u64,
}

/// Who is the next one of its class.
struct Head {
    class: Class,
    piece: Piece,
    is_impatient: bool,
    /// What its own class has under way keeps it out, and that for less than [`PATIENCE_WITH_ITSELF`].
    is_in_its_own_way: bool,
}

#[derive(Debug, Default)]
struct Flow {
    waiting: VecDeque<Piece>,
    /// The tag of what it does next.
    next_tag: u64,
    /// When it had its last turn.
    turn: Duration,
    /// Bytes of it under way.
    under_way_bytes: u64,
}

/// Who works at the disk, and who waits for it. All times count from one moment.
#[derive(Debug, Default)]
pub struct Shares {
    flows: BTreeMap<Class, Flow>,
    /// The tag of what clients do next.
    clients_tag: u64,
    /// Pieces of work of clients under way.
    clients: u64,
    /// Their bytes.
    clients_bytes: u64,
    /// When the last one ended, if there ever was one.
    clients_left: Option<Duration>,
    /// Bytes of background work under way.
    under_way_bytes: u64,
    /// The highest tag that anybody began with: where who comes begins while nobody else has work.
    virtual_time: u64,
    next_number: u64,
}

/// What a piece of work counts as.
fn cost_of(bytes: u64) -> u64 {
    bytes.max(PIECE_MIN)
}

impl Shares {
    /// A client has work of so many bytes for the disk, which begins now.
    pub fn client_begins(&mut self, bytes: u64) {
        if self.clients == 0 {
            self.clients_tag = self.clients_tag.max(self.floor());
        }
        self.virtual_time = self.virtual_time.max(self.clients_tag);
        let tag = self.clients_tag.saturating_add(cost_of(bytes) * (SCALE / CLIENTS));
        let heads = self.flows.values().filter_map(|flow| flow.waiting.front());
        let furthest = heads.map(|head| head.tag.saturating_add(AHEAD_MAX)).min();
        self.clients_tag = tag.min(furthest.unwrap_or(u64::MAX));
        self.clients += 1;
        self.clients_bytes += cost_of(bytes);
    }

    /// The tag of who comes after it had nothing to do: that of who has had the least of those who have work.
    fn floor(&self) -> u64 {
        let heads = self.flows.values().filter_map(|flow| flow.waiting.front());
        let clients = (self.clients > 0).then_some(self.clients_tag);
        heads.map(|head| head.tag).chain(clients).min().unwrap_or(self.virtual_time)
    }

    /// A piece of work of a client of so many bytes ended.
    pub fn client_ends(&mut self, bytes: u64, now: Duration) {
        self.clients = self.clients.saturating_sub(1);
        self.clients_bytes = self.clients_bytes.saturating_sub(cost_of(bytes));
        self.clients_left = Some(now);
    }

    /// Whether no client has work, nor had any a moment ago.
    #[must_use]
    pub fn is_quiet(&self, now: Duration) -> bool {
        let is_over = |left: Duration| now.saturating_sub(left) >= QUIET_AFTER;
        self.clients == 0 && self.clients_left.is_none_or(is_over)
    }

    /// `class` has work of so many bytes. What begins is told to [`Shares::ends`] with the same bytes.
    pub fn ask(&mut self, class: Class, bytes: u64, now: Duration) -> Asked {
        let (is_quiet, floor) = (self.is_quiet(now), self.floor());
        let number = self.next_number;
        self.next_number += 1;
        let cost = cost_of(bytes);
        let flow = self.flows.entry(class).or_default();
        let is_first = flow.waiting.is_empty();
        let tag = if is_first { flow.next_tag.max(floor) } else { flow.next_tag };
        let is_crowded = flow.waiting.len() >= WAITING_MAX;
        flow.next_tag = tag.saturating_add(cost * (SCALE / class.weight()));
        if is_crowded || is_quiet && is_first {
            flow.turn = now;
            flow.under_way_bytes += cost;
            self.virtual_time = self.virtual_time.max(tag);
            self.under_way_bytes += cost;
            return if is_crowded { Asked::OutOfTurn } else { Asked::Alone };
        }
        flow.waiting.push_back(Piece { number, cost, asked: now, tag });
        Asked::Waits(Ticket { class, number })
    }

    /// Who begins now, if anybody who waits does. To be asked until it says nobody, after everything else that is told
    /// here, and when [`PATIENCE`] is over for somebody who waits.
    pub fn next(&mut self, now: Duration) -> Option<Ticket> {
        let (class, piece) = self.candidate(now)?;
        let flow = self.flows.get_mut(&class)?;
        flow.waiting.pop_front();
        flow.turn = now;
        flow.under_way_bytes += piece.cost;
        self.virtual_time = self.virtual_time.max(piece.tag);
        self.under_way_bytes += piece.cost;
        Some(Ticket { class, number: piece.number })
    }

    /// Who begins now: whoever lost patience, or has the lowest tag, is not ahead of clients, and finds room. Room that
    /// others hold is waited for for [`PATIENCE`], and room that its own class holds for [`PATIENCE_WITH_ITSELF`]: that class
    /// has its turn at the disk, which does not get faster by more.
    fn candidate(&self, now: Duration) -> Option<(Class, Piece)> {
        let heads = self.flows.iter().filter_map(|(class, flow)| {
            let piece = *flow.waiting.front()?;
            let waited = now.saturating_sub(piece.asked.max(flow.turn));
            let is_in_its_own_way =
                waited < PATIENCE_WITH_ITSELF && self.is_in_its_own_way(flow, piece);
            let is_impatient = waited >= PATIENCE;
            Some(Head { class: *class, piece, is_impatient, is_in_its_own_way })
        });
        let heads: Vec<_> = heads.collect();
        let by_tag = |head: &&Head| (head.piece.tag, head.piece.number);
        let lost_patience = |head: &&Head| {
            head.is_impatient && (!head.is_in_its_own_way || self.has_room(head.piece))
        };
        let impatient = heads.iter().filter(lost_patience).min_by_key(by_tag);
        let may_begin = |piece: Piece| self.clients == 0 || piece.tag <= self.clients_tag;
        let finds_room = |piece| self.has_room(piece) || self.is_quiet(now);
        // Whoever is next is waited for: smaller ones that would find room do not pass it.
        let in_turn = heads.iter().min_by_key(by_tag);
        let in_turn = in_turn.filter(|head| may_begin(head.piece) && finds_room(head.piece));
        impatient.or(in_turn).map(|head| (head.class, head.piece))
    }

    /// Whether what its class has under way is what keeps the piece from being so as well.
    fn is_in_its_own_way(&self, flow: &Flow, piece: Piece) -> bool {
        let own = flow.under_way_bytes;
        own > 0 && (own + piece.cost > self.under_way_max() || self.has_room_but_for(own, piece))
    }

    /// Beside more of clients than [`UNDER_WAY_MAX`], this much would be less than a share.
    fn under_way_max(&self) -> u64 {
        self.clients_bytes.max(UNDER_WAY_MAX)
    }

    /// Whether the piece may be under way beside what is.
    fn has_room(&self, piece: Piece) -> bool {
        self.has_room_but_for(0, piece)
    }

    /// The same if so many bytes of that were not.
    fn has_room_but_for(&self, bytes: u64, piece: Piece) -> bool {
        let under_way_bytes = self.under_way_bytes.saturating_sub(bytes);
        under_way_bytes == 0 || under_way_bytes + piece.cost <= self.under_way_max()
    }

    /// A piece of work of `class` of so many bytes that began has ended.
    pub fn ends(&mut self, class: Class, bytes: u64) {
        if let Some(flow) = self.flows.get_mut(&class) {
            flow.under_way_bytes = flow.under_way_bytes.saturating_sub(cost_of(bytes));
        }
        self.under_way_bytes = self.under_way_bytes.saturating_sub(cost_of(bytes));
    }

    /// Nobody waits for this any more. Its share was not used, and goes back as far as nobody waits behind it.
    pub fn leaves(&mut self, ticket: Ticket) {
        let Some(flow) = self.flows.get_mut(&ticket.class) else { return };
        let Some(at) = flow.waiting.iter().position(|piece| piece.number == ticket.number) else {
            return;
        };
        let gone = flow.waiting.remove(at);
        if let Some(gone) = gone.filter(|_| at == flow.waiting.len()) {
            flow.next_tag = gone.tag;
        }
    }

    /// How many pieces of work wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.flows.values().map(|flow| flow.waiting.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1024 * 1024;
    const START: Duration = Duration::from_secs(100);

    fn millis(count: u64) -> Duration {
        START + Duration::from_millis(count)
    }

    fn waits(asked: Asked) -> Ticket {
        match asked {
            Asked::Waits(ticket) => ticket,
            Asked::Alone | Asked::OutOfTurn => panic!("{asked:?}"),
        }
    }

    #[test]
    fn nobody_waits_while_clients_have_nothing_to_do() {
        let mut shares = Shares::default();
        for _ in 0..100 {
            assert_eq!(shares.ask(Class::Scrub, MIB, START), Asked::Alone);
        }
        shares.client_begins(1);
        shares.client_ends(1, millis(0));
        let ticket = waits(shares.ask(Class::Serving, MIB, millis(10)));
        assert_eq!(shares.next(millis(10)), None, "too much is under way");
        assert_eq!(shares.next(millis(999)), None);
        assert_eq!(shares.next(millis(1000)), Some(ticket), "the clients have left");
        assert_eq!(shares.ask(Class::Serving, MIB, millis(1000)), Asked::Alone);
    }

    #[test]
    fn so_much_is_under_way_at_once_and_one_piece_whatever_its_size() {
        let mut shares = Shares::default();
        shares.client_begins(1);
        shares.client_ends(1, START);
        let tickets: Vec<_> =
            (0..6).map(|_| waits(shares.ask(Class::Replicas, MIB, START))).collect();
        for ticket in &tickets[..4] {
            assert_eq!(shares.next(START), Some(*ticket));
        }
        assert_eq!(shares.next(START), None);
        shares.ends(Class::Replicas, MIB);
        assert_eq!(shares.next(START), Some(tickets[4]));
        (0..4).for_each(|_| shares.ends(Class::Replicas, MIB));
        shares.leaves(tickets[5]);
        let large = waits(shares.ask(Class::Replicas, 100 * MIB, START));
        assert_eq!(shares.next(START), Some(large));
        let small = waits(shares.ask(Class::Replicas, 1, START));
        assert_eq!(shares.next(START), None);
        shares.ends(Class::Replicas, 100 * MIB);
        assert_eq!(shares.next(START), Some(small));
    }

    #[test]
    fn a_class_that_never_comes_to_an_end_holds_no_other_one() {
        let mut shares = Shares::default();
        shares.client_begins(1);
        let endless = waits(shares.ask(Class::Replicas, UNDER_WAY_MAX, START));
        assert_eq!(shares.next(START), Some(endless));
        let waiting =
            [Class::Serving, Class::Scrub].map(|class| waits(shares.ask(class, MIB, START)));
        assert_eq!(shares.next(millis(999)), None, "there is no room");
        let mut named: Vec<_> = std::iter::from_fn(|| shares.next(millis(1000))).collect();
        named.sort();
        assert_eq!(named, waiting);
    }

    #[test]
    fn nobody_loses_patience_with_room_that_it_holds_itself() {
        let mut shares = Shares::default();
        shares.client_begins(1);
        let slow = waits(shares.ask(Class::Serving, UNDER_WAY_MAX, START));
        assert_eq!(shares.next(START), Some(slow));
        let later = waits(shares.ask(Class::Serving, MIB, START));
        let other = waits(shares.ask(Class::Replicas, MIB, START));
        assert_eq!(shares.next(millis(1000)), Some(other), "others hold the room");
        let more = waits(shares.ask(Class::Replicas, MIB, millis(1000)));
        assert_eq!(shares.next(millis(2000)), Some(more), "they still do");
        for second in 3..8 {
            assert_eq!(shares.next(millis(second * 1000)), None, "after {second} s");
        }
        assert_eq!(shares.next(millis(8000)), Some(later), "for so long, and no longer");
        let last = waits(shares.ask(Class::Serving, MIB, millis(8000)));
        assert_eq!(shares.next(millis(9000)), None);
        shares.ends(Class::Serving, UNDER_WAY_MAX);
        assert_eq!(shares.next(millis(9000)), Some(last));
    }

    #[test]
    fn who_waits_too_long_has_a_turn_although_clients_never_come_to_an_end() {
        let mut shares = Shares::default();
        shares.client_begins(1);
        for class in Class::ALL {
            // The first one is within the share.
            let first = waits(shares.ask(class, 300 * PIECE_MIN, START));
            assert_eq!(shares.next(START), Some(first));
            shares.ends(class, 300 * PIECE_MIN);
            let second = waits(shares.ask(class, PIECE_MIN, START));
            assert_eq!(shares.next(millis(999)), None, "{class:?}");
            assert_eq!(shares.next(millis(1000)), Some(second), "{class:?}");
            shares.ends(class, PIECE_MIN);
            shares.client_begins(600 * PIECE_MIN);
        }
    }

    #[test]
    fn more_than_the_bound_does_not_wait() {
        let mut shares = Shares::default();
        shares.client_begins(1);
        for _ in 0..WAITING_MAX {
            waits(shares.ask(Class::Serving, 1, START));
        }
        assert_eq!(shares.ask(Class::Serving, 1, START), Asked::OutOfTurn);
        assert_eq!(shares.waiting(), WAITING_MAX);
        waits(shares.ask(Class::Scrub, 1, START));
    }

    #[test]
    fn who_leaves_gives_its_share_back() {
        let mut shares = Shares::default();
        shares.client_begins(1);
        let blocking = waits(shares.ask(Class::Serving, 100 * MIB, START));
        assert_eq!(shares.next(START), Some(blocking));
        for _ in 0..50 {
            let ticket = waits(shares.ask(Class::Replicas, 10 * MIB, START));
            shares.leaves(ticket);
            shares.leaves(ticket);
        }
        shares.ends(Class::Serving, 100 * MIB);
        let ticket = waits(shares.ask(Class::Replicas, MIB, START));
        assert_eq!(shares.next(START), Some(ticket));
    }

    /// A disk that does one piece after another, with clients of which so many pieces are always under way, and
    /// classes that always have more to do. What each came to, in bytes.
    fn busy_disk(clients: usize, classes: &[Class], sizes: &[u64]) -> (u64, BTreeMap<Class, u64>) {
        let (mut shares, mut now) = (Shares::default(), START);
        let mut queue: VecDeque<(Option<Class>, u64)> = VecDeque::new();
        let (mut of_clients, mut of_classes) = (0, BTreeMap::new());
        let mut asked: BTreeMap<Ticket, (Class, u64)> = BTreeMap::new();
        let mut sizes = sizes.iter().copied().cycle();
        for _ in 0..clients {
            let bytes = sizes.next().unwrap_or(MIB);
            shares.client_begins(bytes);
            queue.push_back((None, bytes));
        }
        for _ in 0..4000 {
            for class in classes {
                let begun = queue.iter().filter(|(it, _)| *it == Some(*class)).count();
                for _ in asked.values().filter(|(it, _)| it == class).count() + begun..16 {
                    let bytes = sizes.next().unwrap_or(MIB);
                    match shares.ask(*class, bytes, now) {
                        Asked::Waits(ticket) => drop(asked.insert(ticket, (*class, bytes))),
                        Asked::Alone | Asked::OutOfTurn => queue.push_back((Some(*class), bytes)),
                    }
                }
            }
            while let Some(ticket) = shares.next(now) {
                let (class, bytes) = asked.remove(&ticket).unwrap();
                queue.push_back((Some(class), bytes));
            }
            let Some((class, bytes)) = queue.pop_front() else { break };
            // A gigabyte in a second.
            now += Duration::from_nanos(bytes);
            match class {
                Some(class) => {
                    shares.ends(class, bytes);
                    *of_classes.entry(class).or_default() += bytes;
                }
                None => {
                    of_clients += bytes;
                    let next = sizes.next().unwrap_or(MIB);
                    shares.client_begins(next);
                    shares.client_ends(bytes, now);
                    queue.push_back((None, next));
                }
            }
        }
        (of_clients, of_classes)
    }

    #[test]
    fn each_has_its_weight_beside_clients_and_all_that_they_leave() {
        let (serving, replicas, scrub) = (Class::Serving, Class::Replicas, Class::Scrub);
        for (clients, classes, of_clients, of_classes) in [
            (8, &[serving][..], 6.0 / 8.0, &[2.0 / 8.0][..]),
            (1, &[replicas], 6.0 / 8.0, &[2.0 / 8.0]),
            (8, &[scrub], 6.0 / 7.0, &[1.0 / 7.0]),
            (3, &[serving, replicas], 6.0 / 10.0, &[2.0 / 10.0, 2.0 / 10.0]),
            (8, &Class::ALL, 6.0 / 11.0, &[2.0 / 11.0, 2.0 / 11.0, 1.0 / 11.0]),
            (0, &[replicas], 0.0, &[1.0]),
        ] {
            let (got_clients, got) = busy_disk(clients, classes, &[MIB]);
            let all = (got_clients + got.values().sum::<u64>()) as f64;
            let is_near = |bytes: u64, share: f64| (bytes as f64 / all - share).abs() < 0.02;
            assert!(is_near(got_clients, of_clients), "{classes:?}: {got_clients} of {all}");
            for (class, share) in classes.iter().zip(of_classes) {
                assert!(is_near(got[class], *share), "{class:?} among {classes:?}: {got:?}");
            }
        }
    }

    proptest! {
        /// Beside each other two classes that always have work are never further from their weights than one piece of
        /// each, and from clients than what may be under way, whatever the sizes are.
        #[test]
        fn shares_are_within_a_piece_of_the_weights(
            sizes in proptest::collection::vec(PIECE_MIN..2 * MIB, 1..40),
            clients in 1_usize..9,
        ) {
            let (of_clients, got) = busy_disk(clients, &Class::ALL, &sizes);
            let each = |class: Class| (got[&class] / class.weight()) as f64;
            let largest = (2 * MIB) as f64;
            for (a, b) in [
                (Class::Serving, Class::Replicas),
                (Class::Serving, Class::Scrub),
                (Class::Replicas, Class::Scrub),
            ] {
                // What is under way is not counted yet.
                let slack = 2.0 * largest + UNDER_WAY_MAX as f64;
                prop_assert!((each(a) - each(b)).abs() <= slack, "{a:?} {b:?} {got:?}");
                let beside = (of_clients / CLIENTS) as f64;
                let slack = slack + largest * clients as f64 + AHEAD_MAX as f64;
                prop_assert!((each(a) - beside).abs() <= slack, "{a:?} {got:?} {of_clients}");
            }
        }

        /// Whatever happens in whatever order: no more is under way than may be while clients have work, but for what others
        /// kept waiting for [`PATIENCE`] or its own class for [`PATIENCE_WITH_ITSELF`]; who waits is named once, and nobody
        /// waits once clients have left for good and all that is under way has ended.
        #[test]
        fn nobody_is_forgotten(
            steps in proptest::collection::vec((0_u8..6, 0_usize..3, 0_u64..3 * MIB, 0_u64..400), 0..300),
        ) {
            let (mut shares, mut now, mut clients) = (Shares::default(), START, Vec::new());
            let (mut waiting, mut running) = (BTreeMap::new(), Vec::new());
            for (what, class, bytes, pause) in steps {
                now += Duration::from_millis(pause);
                match what {
                    0 => {
                        shares.client_begins(bytes);
                        clients.push(bytes);
                    }
                    1 => if let Some(bytes) = clients.pop() {
                        shares.client_ends(bytes, now);
                    },
                    2 => if let Some(ticket) = waiting.keys().nth(class).copied() {
                        shares.leaves(ticket);
                        waiting.remove(&ticket);
                    },
                    3 => if let Some((class, bytes)) = running.pop() {
                        shares.ends(class, bytes);
                    },
                    _ => match shares.ask(Class::ALL[class], bytes, now) {
                        Asked::Waits(ticket) => drop(waiting.insert(ticket, (bytes, now))),
                        Asked::Alone => {
                            prop_assert!(shares.is_quiet(now));
                            running.push((Class::ALL[class], bytes));
                        }
                        Asked::OutOfTurn => prop_assert!(false),
                    },
                }
                while let Some(ticket) = shares.next(now) {
                    let named = waiting.remove(&ticket);
                    prop_assert!(named.is_some(), "named twice, or after it left");
                    let beside: u64 = running.iter().map(|(_, it)| cost_of(*it)).sum();
                    let others = running.iter().filter(|(it, _)| *it != ticket.class);
                    let others: u64 = others.map(|(_, it)| cost_of(*it)).sum();
                    let (bytes, asked) = named.unwrap_or((0, now));
                    let of_clients: u64 = clients.iter().map(|it| cost_of(*it)).sum();
                    let most = of_clients.max(UNDER_WAY_MAX);
                    let has_room = beside == 0 || beside + cost_of(bytes) <= most;
                    let own = beside - others;
                    let others_leave_room = others == 0 || others + cost_of(bytes) <= most;
                    let in_its_own_way =
                        own > 0 && (own + cost_of(bytes) > most || others_leave_room);
                    let patience = if in_its_own_way { PATIENCE_WITH_ITSELF } else { PATIENCE };
                    let lost_patience = now - asked >= patience;
                    prop_assert!(shares.is_quiet(now) || has_room || lost_patience);
                    running.push((ticket.class, bytes));
                }
                prop_assert_eq!(shares.waiting(), waiting.len());
            }
            running.drain(..).for_each(|(class, bytes)| shares.ends(class, bytes));
            clients.drain(..).for_each(|bytes| shares.client_ends(bytes, now));
            now += QUIET_AFTER;
            while shares.next(now).is_some() {}
            prop_assert_eq!(shares.waiting(), 0);
        }

        /// A class that has work waiting has a turn every [`PATIENCE`], though clients never come to an end.
        #[test]
        fn no_class_starves(
            of_clients in proptest::collection::vec(0_u64..64 * MIB, 1..50),
            bytes in 0_u64..8 * MIB,
        ) {
            for class in Class::ALL {
                let (mut shares, mut now, mut turns) = (Shares::default(), START, 0);
                shares.client_begins(1);
                let mut ticket = waits(shares.ask(class, bytes, now));
                for of_clients in &of_clients {
                    shares.client_begins(*of_clients);
                    now += PATIENCE;
                    while let Some(next) = shares.next(now) {
                        prop_assert_eq!(next, ticket);
                        turns += 1;
                        shares.ends(class, bytes);
                        ticket = waits(shares.ask(class, bytes, now));
                    }
                }
                prop_assert!(turns >= of_clients.len());
            }
        }
    }
}
