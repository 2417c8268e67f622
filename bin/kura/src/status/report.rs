//! What one node says of itself.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use crate::ask::{AskError, NodeUrl};

/// How long one node may take for all its answers.
const NODE_TIMEOUT: Duration = Duration::from_secs(5);

/// One node and what it said.
#[derive(Debug)]
pub(crate) struct Report {
    /// The node.
    pub(crate) node: NodeUrl,
    /// What it said, or why it said nothing.
    pub(crate) answers: Result<Answers, String>,
}

/// The pages of a node, as they came.
#[derive(Debug)]
pub(crate) struct Answers {
    /// `/ready`.
    pub(crate) ready: Value,
    /// `/primary`; null of a node of an earlier version.
    pub(crate) primary: Value,
    /// `/status`.
    pub(crate) status: Value,
    /// `/status/cluster`.
    pub(crate) cluster: Value,
    /// `/status/disk`; null if the disk did not say in time.
    pub(crate) disk: Value,
}

impl Report {
    /// Asks a node for everything.
    pub(crate) async fn ask(node: NodeUrl) -> Self {
        let deadline = Instant::now() + NODE_TIMEOUT;
        let answers = async {
            let (ready, primary, status, cluster, disk) = tokio::join!(
                page(&node, "/ready"),
                page(&node, "/primary"),
                page(&node, "/status"),
                page(&node, "/status/cluster"),
                timeout_at(deadline, page(&node, "/status/disk")),
            );
            let disk = disk.ok().and_then(Result::ok).unwrap_or(Value::Null);
            let primary = primary.unwrap_or(Value::Null);
            Ok(Answers { ready: ready?, primary, status: status?, cluster: cluster?, disk })
        };
        let answers = answers.await;
        Self { node, answers }
    }

    /// Whether the node says that it is ready.
    pub(crate) fn is_ready(&self) -> bool {
        self.answers.as_ref().is_ok_and(|answers| answers.ready["ready"] == true)
    }

    /// What the node said, for programs.
    pub(crate) fn json(&self) -> Value {
        let url = self.node.to_string();
        match &self.answers {
            Ok(Answers { ready, primary, status, cluster, disk }) => json!({
                "url": url,
                "ready": ready,
                "primary": primary["primary"],
                "status": status,
                "cluster": cluster,
                "disk": disk,
            }),
            Err(error) => json!({ "url": url, "error": error }),
        }
    }
}

/// A page of JSON. A node that is not ready says so with a status of its own.
async fn page(node: &NodeUrl, path: &str) -> Result<Value, String> {
    let page = node.get(path, NODE_TIMEOUT).await.map_err(|error: AskError| error.to_string())?;
    if !matches!(page.status, 200 | 503) {
        return Err(format!(
            "{path} is answered {}: is this the public port of a node, of this version?",
            page.status
        ));
    }
    serde_json::from_slice(&page.body)
        .map_err(|_| format!("{path} is not answered with JSON: is this the port of a node?"))
}
