//! Deletes of namespaces, told to the history.

use http::Method;
use kura_core::{record::Version, tombstones::Tombstones};
use kura_env::Clock;

use super::{
    connection::{Connection, Failure},
    read::drain,
    upload::Upload,
};
use crate::{court::Court, deletes::Answered, history::NodeIndex};

/// Tells what a node has on its disk of deletes; nothing where that cannot be read.
pub type OnDisk = dyn Fn(NodeIndex) -> Tombstones + Send + Sync;

/// Deletes for an actor, or for an operator.
pub struct Cleaner<'a> {
    /// Where evidence goes.
    pub court: &'a Court,
    /// What time it is.
    pub clock: &'a dyn Clock,
    /// What the nodes keep of deletes.
    pub on_disk: &'a OnDisk,
}

impl Cleaner<'_> {
    /// One DELETE of a namespace; the status that it was answered with. Whoever drops this leaves open
    /// whether it was done.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the node does not answer.
    pub async fn clean(
        &self,
        connection: &mut Connection,
        node: NodeIndex,
        namespace: &str,
    ) -> Result<u16, Failure> {
        let now = self.clock.now();
        let id = self.court.evidence().history.begin_delete(node, namespace, now);
        let path = format!("/api/cache/clean?namespace_id={namespace}");
        let answer = connection.request(Method::DELETE, &path, Upload::empty()).await?;
        let status = answer.status;
        let answered = match status {
            204 => Answered::Done(self.version(node, namespace)),
            400..500 => Answered::Refused,
            _ => Answered::Open,
        };
        {
            let mut evidence = self.court.evidence();
            evidence.history.saw_status(status);
            evidence.history.end_delete(namespace, id, self.clock.now(), answered);
        }
        drain(answer).await?;
        Ok(status)
    }

    fn version(&self, node: NodeIndex, namespace: &str) -> Option<Version> {
        let on_disk = (self.on_disk)(node);
        on_disk.iter().find(|(name, _)| *name == namespace).map(|(_, tombstone)| tombstone.version)
    }
}
