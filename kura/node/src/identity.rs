//! IDENTITY: who this node is, and in which format its data directory lies.

use bytes::Bytes;
use kura_env::{Disk, DiskError, DiskErrorKind, Env};
use serde::{Deserialize, Serialize};

use crate::{metrics::Metrics, store::state_file};

/// The format that this version writes and the only one it reads.
const FORMAT: u32 = 1;
const IDENTITY: &str = "IDENTITY";
const IDENTITY_NEW: &str = "IDENTITY.new";

/// Who a node is, for as long as its data directory lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// The format of the data directory.
    pub(crate) format: u32,
    /// Drawn at random when the directory was made.
    pub(crate) node: u64,
    /// Drawn at random with the directory: a peer's cursor is of no use in another.
    pub(crate) incarnation: u64,
    /// CRC-32C over the three, little-endian: a changed digit would be another node. Not in files of
    /// early versions.
    #[serde(default)]
    check: Option<u32>,
}

/// Why it cannot be told who this node is.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The directory was made by another version.
    #[error(
        "the data directory has format {found}, this version reads {FORMAT} only; start the \
         version that wrote it, or an empty directory"
    )]
    Format {
        /// What the file says.
        found: u32,
    },
}

impl Identity {
    fn new(node: u64, incarnation: u64) -> Self {
        let identity = Self { format: FORMAT, node, incarnation, check: None };
        Self { check: Some(identity.sum()), ..identity }
    }

    fn sum(&self) -> u32 {
        let words = [self.node.to_le_bytes(), self.incarnation.to_le_bytes()].concat();
        crc32c::crc32c(&[&self.format.to_le_bytes()[..], &words].concat())
    }

    /// What lies in the file; `None` if that is not what was written.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let identity: Self = serde_json::from_slice(bytes).ok()?;
        identity.check.is_none_or(|check| check == identity.sum()).then_some(identity)
    }

    fn encode(&self) -> Vec<u8> {
        let Self { format, node, incarnation, check } = self;
        let text = serde_json::json!({
            "format": format, "node": node, "incarnation": incarnation, "check": check,
        });
        text.to_string().into_bytes()
    }
}

/// What is wrong with IDENTITY; `None` if nothing is, or there is none yet.
pub(crate) async fn problem(disk: &dyn Disk) -> Result<Option<String>, DiskError> {
    let bytes = match state_file::load(disk, IDENTITY).await {
        Err(error) if error.kind == DiskErrorKind::Io => return Ok(Some(error.to_string())),
        loaded => loaded?,
    };
    Ok(match bytes.map(|bytes| Identity::decode(&bytes)) {
        None => None,
        Some(Some(identity)) if identity.format == FORMAT => None,
        Some(Some(identity)) => Some(IdentityError::Format { found: identity.format }.to_string()),
        Some(None) => Some("IDENTITY is not what was written".to_owned()),
    })
}

/// Changes nothing, and says so where IDENTITY has another format.
///
/// # Errors
///
/// [`IdentityError::Format`], or the disk's.
pub(crate) async fn check_format(disk: &dyn Disk) -> Result<(), IdentityError> {
    let bytes = match state_file::load(disk, IDENTITY).await {
        Err(error) if error.kind == DiskErrorKind::Io => return Ok(()),
        loaded => loaded?,
    };
    match bytes.and_then(|bytes| Identity::decode(&bytes)) {
        Some(Identity { format, .. }) if format != FORMAT => {
            Err(IdentityError::Format { found: format })
        }
        Some(_) | None => Ok(()),
    }
}

/// Reads IDENTITY, or makes a new one: in a directory that has none, and where it is damaged. A node that
/// takes a new identity keeps its data; its peers compare with it once.
pub(crate) async fn load_or_create(
    env: &Env,
    metrics: &Metrics,
) -> Result<Identity, IdentityError> {
    let bytes = match state_file::load(&*env.disk, IDENTITY).await {
        Err(error) if error.kind == DiskErrorKind::Io => {
            tracing::warn!(%error, "IDENTITY cannot be read");
            Some(Bytes::new())
        }
        loaded => loaded?,
    };
    if let Some(bytes) = bytes {
        match Identity::decode(&bytes) {
            Some(identity) if identity.format == FORMAT => return Ok(identity),
            Some(identity) => return Err(IdentityError::Format { found: identity.format }),
            None => {
                metrics.store.recovered_identities.inc();
                tracing::warn!("IDENTITY is damaged: the node takes a new one, with its data");
            }
        }
    }
    let mut stream = env.entropy.stream("identity");
    let identity = Identity::new(stream.next_u64(), stream.next_u64());
    state_file::replace(&*env.disk, (IDENTITY, IDENTITY_NEW), identity.encode()).await?;
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_back_and_no_changed_byte_is_taken_for_another_node() {
        let identity = Identity::new(u64::MAX / 3, 7);
        let bytes = identity.encode();
        assert_eq!(Identity::decode(&bytes), Some(identity.clone()));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let read = Identity::decode(&changed);
            // The name of the field that holds the checksum is all that may change.
            let read = read.map(|read| (read.format, read.node, read.incarnation));
            assert!(read.is_none_or(|read| read == (FORMAT, u64::MAX / 3, 7)), "byte {at}");
        }
        let early = br#"{"format":1,"node":5,"incarnation":6}"#;
        assert_eq!(Identity::decode(early).map(|it| (it.node, it.check)), Some((5, None)));
        let newer = br#"{"format":9,"node":5,"incarnation":6}"#;
        assert_eq!(Identity::decode(newer).map(|it| it.format), Some(9));
    }
}
