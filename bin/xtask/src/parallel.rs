//! Work on all cores.

use std::{
    num::NonZero,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Does `work` for each of `items`, as many at a time as there are cores. The results lie in the order of
/// the items.
pub(crate) fn each<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<R>>> = items.iter().map(|_| Mutex::new(None)).collect();
    let worker = || {
        loop {
            let position = next.fetch_add(1, Ordering::Relaxed);
            let (Some(item), Some(slot)) = (items.get(position), results.get(position)) else {
                return;
            };
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(work(item));
        }
    };
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..workers.min(items.len()) {
            scope.spawn(worker);
        }
    });
    // A worker that panics ends the scope with a panic: none is missing here.
    let result = |slot: Mutex<Option<R>>| slot.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.into_iter().filter_map(result).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_item_has_its_result_in_order() {
        let items: Vec<u32> = (0..100).collect();
        assert_eq!(super::each(&items, |item| item * 2), (0..200).step_by(2).collect::<Vec<_>>());
        assert_eq!(super::each(&[], |item: &u32| *item), [0; 0]);
    }
}
