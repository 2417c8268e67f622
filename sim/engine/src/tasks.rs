//! Tasks as a node spawns them, and the cost of its computing on its one CPU.

use std::{
    future::{Future, pending},
    sync::Arc,
};

use kura_env::{BoxFuture, Instant, TaskHandle, Tasks};

use crate::{
    config::{nanos, transfer_nanos},
    host::Life,
    journal::Event,
    shared::Shared,
    task::Wait,
    timer::Sleep,
};

pub(crate) struct SimTasks {
    pub(crate) shared: Arc<Shared>,
    pub(crate) life: Life,
}

impl Tasks for SimTasks {
    fn spawn(&self, name: &'static str, work: BoxFuture<'static, ()>) -> TaskHandle {
        self.shared.handle(self.shared.spawn(self.life, name.into(), work))
    }

    /// The work is done in one go when the future is first polled; what takes virtual time is the
    /// wait for its end, behind all other work of the node's CPU.
    fn compute(
        &self,
        name: &'static str,
        bytes: u64,
        work: Box<dyn FnOnce() + Send>,
    ) -> BoxFuture<'static, ()> {
        let (shared, life) = (Arc::clone(&self.shared), self.life);
        Box::pin(async move {
            if !shared.alive(life) {
                return pending().await;
            }
            let cost_nanos = nanos(shared.config.compute_fixed)
                .saturating_add(transfer_nanos(bytes, shared.config.compute_bytes_per_second));
            let now_nanos = shared.now_nanos();
            let done_at = Instant(shared.hosts.lock().charge(life.node, now_nanos, cost_nanos));
            shared.record(Event::Compute, [bytes, done_at.0], || format!("{} {name}", life.node));
            work();
            let mut sleep = Sleep::new(Arc::clone(&shared), done_at);
            std::future::poll_fn(|cx| {
                shared.waiting(Wait::Cpu(done_at));
                std::pin::Pin::new(&mut sleep).poll(cx)
            })
            .await;
        })
    }
}
