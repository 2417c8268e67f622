//! What clients see of a node in trouble: a disk that hangs, a task that is gone.

use std::{sync::Arc, time::Duration};

use fault_injection::{Fault, FaultId, Faults, Injector, Plan, What, When};
use kura_env::{BoxFuture, TaskEnd, TaskHandle, Tasks};
use kura_node::{node::Ended, service::State};
use tokio::sync::Notify;

use crate::bed::{Bed, put, surface_config};

#[test]
fn a_read_that_hangs_is_a_miss_in_time() {
    let when = When::EffectMatching { label: "read blobs/*".to_owned(), nth: 1 };
    let what = What::Stall { millis: 3_600_000 };
    let fault = Fault { id: FaultId(1), node: "node-1".to_owned(), when, what, times: 2 };
    let injector = Arc::new(Injector::new(Plan { faults: vec![fault] }));
    let bed = Bed::in_world(80, surface_config(), move |env| {
        Faults::new(injector, "node-1", env.clock.clone(), Arc::new(|_| ())).env(env)
    });
    let stored = bed.exchange([put("/team/key", &[b'x'; 100_000]), quit()].concat()).text;
    assert!(stored.starts_with("HTTP/1.1 201"), "{stored}");
    for method in ["GET", "HEAD"] {
        let request =
            format!("{method} /team/key HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answer = bed.exchange(request);
        assert!(answer.text.starts_with("HTTP/1.1 404"), "{}", answer.text);
        assert!(answer.after < Duration::from_secs(25), "{:?}", answer.after);
    }
    assert!(bed.get("/team/key").starts_with("HTTP/1.1 200"), "it moves again");
    assert_eq!(bed.metric("kura_http_refusals_total{reason=\"slow-read\"} "), 2);
}

fn quit() -> Vec<u8> {
    b"GET /up HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_vec()
}

/// Tasks of which one can be made to end.
struct Mortal {
    tasks: Arc<dyn Tasks>,
    name: &'static str,
    end: Arc<Notify>,
}

impl Tasks for Mortal {
    fn spawn(&self, name: &'static str, work: BoxFuture<'static, ()>) -> TaskHandle {
        if name != self.name {
            return self.tasks.spawn(name, work);
        }
        let end = self.end.clone();
        let mortal = async move {
            tokio::select! {
                biased;
                () = end.notified() => {}
                () = work => {}
            }
        };
        self.tasks.spawn(name, Box::pin(mortal))
    }

    fn compute(
        &self,
        name: &'static str,
        bytes: u64,
        work: Box<dyn FnOnce() + Send>,
    ) -> BoxFuture<'static, ()> {
        self.tasks.compute(name, bytes, work)
    }
}

#[test]
fn a_node_whose_store_lost_a_task_has_failed_and_says_so() {
    for name in ["appender", "staging"] {
        let end = Arc::new(Notify::new());
        let told = end.clone();
        let mut bed = Bed::in_world(81, surface_config(), move |mut env| {
            env.tasks = Arc::new(Mortal { tasks: env.tasks, name, end: told });
            env
        });
        let node = bed.take_node();
        let service = node.service().clone();
        end.notify_one();
        let ended = bed.run(async move { node.failed().await });
        let Ended::StoreEnded { task, end: TaskEnd::Done } = &*ended else { panic!("{ended:?}") };
        assert!(task.starts_with(name), "{task}");
        let readiness = service.readiness();
        assert_eq!((readiness.ready, readiness.state), (false, State::Failed), "{readiness:?}");
    }
}
