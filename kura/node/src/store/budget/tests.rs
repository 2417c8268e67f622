//! The budget against tables, and against a model under random use.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use proptest::prelude::*;

use super::{
    Lane::{Clients, Replicas},
    *,
};

type Waiting<'a> = Pin<Box<dyn Future<Output = Result<Reservation, NoTurn>> + 'a>>;

/// The future of a reservation, in the queue already unless it was let in at once.
fn wait(budget: &Arc<Budget>, lane: Lane, bytes: u64) -> Waiting<'_> {
    Box::pin(budget.wait(lane, bytes))
}

fn poll(future: &mut Waiting<'_>) -> Poll<Result<Reservation, NoTurn>> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

fn granted(future: &mut Waiting<'_>) -> Option<Reservation> {
    match poll(future) {
        Poll::Ready(granted) => Some(granted.expect("it was worth waiting")),
        Poll::Pending => None,
    }
}

#[test]
fn who_waits_is_let_in_in_order_of_arrival_and_may_go_away() {
    for (lane, limit) in [(Replicas, 20), (Clients, 10)] {
        let budget = Budget::new(limit);
        let held = budget.reserve(lane, 8).unwrap();
        let (mut large, mut gone, mut small) =
            (wait(&budget, lane, 9), wait(&budget, lane, 9), wait(&budget, lane, 1));
        for waiting in [&mut large, &mut gone, &mut small] {
            assert!(poll(waiting).is_pending(), "the small one waits its turn");
        }
        assert!(budget.reserve(lane, 1).is_err(), "who does not wait is not let in first");
        drop(gone);
        drop(held);
        let first = granted(&mut large).expect("its turn");
        let last = granted(&mut small).expect("fits beside");
        assert_eq!((first.bytes(), last.bytes(), budget.in_use_bytes()), (9, 1, 10));
        // A grant that nobody took comes back.
        let mut late = wait(&budget, lane, 5);
        assert!(poll(&mut late).is_pending());
        drop((first, last));
        assert_eq!(budget.in_use_bytes(), 5);
        drop(late);
        assert_eq!(budget.in_use_bytes(), 0);
        let Poll::Ready(Err(NoTurn::TooLarge)) = poll(&mut wait(&budget, lane, 11)) else {
            panic!("never fits what the lane may hold")
        };
    }
}

#[test]
fn who_goes_away_lets_the_next_one_in() {
    let budget = Budget::new(10);
    let _held = budget.reserve(Clients, 8).unwrap();
    let (mut large, mut small) = (wait(&budget, Clients, 5), wait(&budget, Clients, 2));
    assert!(poll(&mut large).is_pending() && poll(&mut small).is_pending());
    drop(large);
    assert_eq!(granted(&mut small).expect("fits").bytes(), 2);
}

#[test]
fn no_more_clients_wait_than_may() {
    let budget = Budget::new(10);
    let held = budget.reserve(Clients, 10).unwrap();
    let mut waiting: Vec<_> = (0..CLIENTS_WAITING_MAX).map(|_| wait(&budget, Clients, 1)).collect();
    for client in &mut waiting {
        assert!(poll(client).is_pending());
    }
    let mut beyond = wait(&budget, Clients, 1);
    assert!(matches!(poll(&mut beyond), Poll::Ready(Err(NoTurn::TooMany))));
    assert_eq!(budget.clients_waiting(), CLIENTS_WAITING_MAX);
    drop(waiting.pop());
    assert!(poll(&mut wait(&budget, Clients, 1)).is_pending(), "one place is free");
    drop((waiting, held));
    assert_eq!((budget.clients_waiting(), budget.in_use_bytes()), (0, 0));
}

#[test]
fn who_holds_a_part_can_end_though_others_wait() {
    let budget = Budget::new(10);
    let mut first = budget.reserve(Clients, 4).unwrap();
    let mut second = wait(&budget, Clients, 8);
    assert!(poll(&mut second).is_pending());
    assert!(first.grow(7).is_err(), "more than there is");
    first.grow(6).unwrap();
    drop(first);
    assert_eq!(granted(&mut second).expect("its turn").bytes(), 8);
}

#[test]
fn what_is_reserved_comes_back_on_drop_and_never_exceeds_the_limit() {
    let budget = Budget::new(10);
    let mut first = budget.reserve(Clients, 6).unwrap();
    assert_eq!(budget.reserve(Clients, 5).err(), Some(Exhausted { in_use_bytes: 6 }));
    let second = budget.reserve(Clients, 3).unwrap();
    assert!(first.grow(2).is_err() && first.grow(u64::MAX).is_err());
    first.grow(1).unwrap();
    assert_eq!((first.bytes(), budget.in_use_bytes()), (7, 10));
    drop(first);
    drop(second);
    assert_eq!(budget.in_use_bytes(), 0);
}

#[test]
fn replicas_leave_clients_their_part() {
    let budget = Budget::new(10);
    let mut replicas: Vec<_> = (0..4).map(|_| wait(&budget, Replicas, 2)).collect();
    let taken: Vec<_> = replicas.iter_mut().filter_map(granted).collect();
    assert_eq!(taken.len(), 2, "a third would be over half of the budget");
    let client = budget.reserve(Clients, 5).unwrap();
    assert_eq!(
        budget.reserve(Clients, 1).err(),
        Some(Exhausted { in_use_bytes: 10 }),
        "the last byte is kept for who waits"
    );
    drop((client, taken));
}

#[test]
fn room_that_clients_give_back_goes_to_who_waits_however_many_clients_come() {
    let budget = Budget::new(10);
    let mut clients: VecDeque<_> = (0..5).map(|_| budget.reserve(Clients, 2).unwrap()).collect();
    let mut replica = wait(&budget, Replicas, 5);
    // They wait as well, in a queue that is never empty.
    let mut queue: VecDeque<_> = (0..8).map(|_| wait(&budget, Clients, 2)).collect();
    for _ in 0..3 {
        assert!(poll(&mut replica).is_pending());
        for client in &mut queue {
            assert!(poll(client).is_pending(), "before a replica that waits");
        }
        clients.pop_front();
    }
    let replica = granted(&mut replica).expect("kept out by clients");
    assert_eq!((clients.len(), budget.in_use_bytes()), (2, 9));
    assert!(poll(&mut queue[0]).is_pending());
    drop(replica);
    let let_in: Vec<_> = queue.iter_mut().filter_map(granted).collect();
    assert_eq!(let_in.len(), 3, "nobody else waits: all that is free");
}

/// A step of random use. Numbers that choose among what there is wrap around.
#[derive(Clone, Debug)]
enum Step {
    Reserve(Lane, u64),
    Wait(Lane, u64),
    Grow(usize, u64),
    GiveBack(usize),
    GiveUp(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let lane = || prop_oneof![Just(Clients), Just(Replicas)];
    let step = prop_oneof![
        2 => (lane(), 0_u64..12).prop_map(|(lane, bytes)| Step::Reserve(lane, bytes)),
        4 => (lane(), 0_u64..22).prop_map(|(lane, bytes)| Step::Wait(lane, bytes)),
        1 => (any::<usize>(), 0_u64..6).prop_map(|(which, more)| Step::Grow(which, more)),
        4 => any::<usize>().prop_map(Step::GiveBack),
        1 => any::<usize>().prop_map(Step::GiveUp),
    ];
    proptest::collection::vec(step, 0..80)
}

/// What the budget must look like, told from outside: by who was let in and who was not.
struct Model<'a> {
    budget: &'a Arc<Budget>,
    held: Vec<Reservation>,
    waiting: Vec<(Lane, u64, Waiting<'a>)>,
}

impl Model<'_> {
    fn held_bytes(&self, lane: Lane) -> u64 {
        self.held.iter().filter(|it| it.lane == lane).map(Reservation::bytes).sum()
    }

    fn first(&self, lane: Lane) -> Option<u64> {
        self.waiting.iter().find(|(other, ..)| *other == lane).map(|(_, bytes, _)| *bytes)
    }

    fn room_bytes(&self, lane: Lane) -> u64 {
        let (clients, replicas) = (self.held_bytes(Clients), self.held_bytes(Replicas));
        let (limit, share) = (self.budget.limit_bytes, self.budget.limit_bytes / 2);
        let free = limit - clients - replicas;
        match lane {
            Replicas => free.min(share - replicas),
            Clients if self.first(Replicas).is_some() => {
                free.min((limit - share).saturating_sub(clients))
            }
            Clients => free,
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Reserve(lane, bytes) => {
                let fits =
                    bytes <= self.room_bytes(lane) && (bytes == 0 || self.first(lane).is_none());
                let reserved = self.budget.reserve(lane, bytes).ok();
                assert_eq!(reserved.is_some(), fits, "{bytes} for {lane:?}");
                self.held.extend(reserved);
            }
            Step::Wait(lane, bytes) => {
                let mut future = wait(self.budget, lane, bytes);
                match poll(&mut future) {
                    Poll::Ready(Ok(reservation)) => self.held.push(reservation),
                    Poll::Ready(Err(_)) => {
                        assert!(bytes > self.budget.reach_bytes(lane), "{bytes} for {lane:?}");
                    }
                    Poll::Pending => self.waiting.push((lane, bytes, future)),
                }
            }
            Step::Grow(which, more) => {
                let count = self.held.len().max(1);
                let rooms = [self.room_bytes(Clients), self.room_bytes(Replicas)];
                if let Some(held) = self.held.get_mut(which % count)
                    && held.bytes() > 0
                {
                    let fits = more <= rooms[held.lane as usize];
                    assert_eq!(held.grow(more).is_ok(), fits);
                }
            }
            Step::GiveBack(which) => {
                let count = self.held.len().max(1);
                (which % count < self.held.len()).then(|| self.held.remove(which % count));
            }
            Step::GiveUp(which) => {
                let count = self.waiting.len().max(1);
                (which % count < self.waiting.len()).then(|| self.waiting.remove(which % count));
            }
        }
        self.collect();
    }

    /// Takes what was granted, and checks that nobody was passed.
    fn collect(&mut self) {
        let mut still: Vec<(Lane, u64, Waiting<'_>)> = Vec::new();
        for (lane, bytes, mut future) in std::mem::take(&mut self.waiting) {
            match granted(&mut future) {
                Some(reservation) => {
                    let passed = still.iter().any(|(other, ..)| *other == lane);
                    assert!(!passed, "{bytes} for {lane:?} were given out of turn");
                    self.held.push(reservation);
                }
                None => still.push((lane, bytes, future)),
            }
        }
        self.waiting = still;
    }

    fn check(&self) {
        let (clients, replicas) = (self.held_bytes(Clients), self.held_bytes(Replicas));
        assert_eq!(self.budget.in_use_bytes(), clients + replicas);
        assert!(clients + replicas <= self.budget.limit_bytes);
        assert!(replicas <= self.budget.limit_bytes / 2, "clients keep their half");
        for lane in [Clients, Replicas] {
            // Room that its lane can have is never withheld from who waits first.
            let fits = self.first(lane).is_some_and(|bytes| bytes <= self.room_bytes(lane));
            assert!(!fits, "{lane:?} wait for {:?} that are free", self.first(lane));
        }
    }
}

#[test]
fn what_was_written_is_no_longer_to_come() {
    let budget = Budget::new(10);
    let mut one = budget.reserve(Clients, 6).unwrap();
    let two = budget.reserve(Replicas, 3).unwrap();
    one.wrote(4);
    assert_eq!((budget.in_use_bytes(), budget.to_come_bytes()), (9, 5));
    one.wrote(40);
    assert_eq!(budget.to_come_bytes(), 3, "no more than was reserved");
    drop(one);
    assert_eq!((budget.in_use_bytes(), budget.to_come_bytes()), (3, 3));
    drop(two);
    assert_eq!(budget.to_come_bytes(), 0);
}

proptest! {
    #[test]
    fn lanes_keep_their_order_and_their_part_and_leave_nothing_unused(
        limit in 1_u64..22,
        steps in steps(),
    ) {
        let budget = Budget::new(limit);
        let mut model = Model { budget: &budget, held: Vec::new(), waiting: Vec::new() };
        for step in &steps {
            model.step(step);
            model.check();
        }
        // Whoever waits comes to have what it waits for, once the others end.
        while !model.held.is_empty() {
            model.step(&Step::GiveBack(0));
            model.check();
        }
        prop_assert!(model.waiting.is_empty());
        drop(model);
        prop_assert_eq!(budget.in_use_bytes(), 0);
    }
}
