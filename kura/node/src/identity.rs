//! IDENTITY: who this node is, and in which format its data directory lies.

use bytes::Bytes;
use kura_env::{DiskError, DiskErrorKind, DiskPath, Env};
use serde::{Deserialize, Serialize};

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
}

/// Why it cannot be told who this node is.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The file is not what was written.
    #[error(
        "IDENTITY is damaged ({0}); remove the file and the node takes a new identity, with its data"
    )]
    Damaged(#[source] serde_json::Error),
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

/// Reads IDENTITY, or makes a new one in a directory that has none.
pub(crate) async fn load_or_create(env: &Env) -> Result<Identity, IdentityError> {
    match env.disk.open(&DiskPath::new(IDENTITY)).await {
        Ok(file) => {
            let len = usize::try_from(file.len().await?).unwrap_or(usize::MAX);
            let bytes = file.read_at(0, len).await?;
            let identity: Identity =
                serde_json::from_slice(&bytes).map_err(IdentityError::Damaged)?;
            if identity.format != FORMAT {
                return Err(IdentityError::Format { found: identity.format });
            }
            Ok(identity)
        }
        Err(error) if error.kind == DiskErrorKind::NotFound => create(env).await,
        Err(error) => Err(error.into()),
    }
}

async fn create(env: &Env) -> Result<Identity, IdentityError> {
    let mut stream = env.entropy.stream("identity");
    let (node, incarnation) = (stream.next_u64(), stream.next_u64());
    let identity = Identity { format: FORMAT, node, incarnation };
    let text = serde_json::to_vec(&identity).map_err(IdentityError::Damaged)?;
    let new = DiskPath::new(IDENTITY_NEW);
    // What a crash in the middle of this left.
    match env.disk.unlink(&new).await {
        Err(error) if error.kind != DiskErrorKind::NotFound => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    let file = env.disk.create(&new).await?;
    file.append(vec![Bytes::from(text)]).await?;
    file.sync_data().await?;
    env.disk.rename(&new, &DiskPath::new(IDENTITY)).await?;
    env.disk.sync_dir(&DiskPath::root()).await?;
    Ok(identity)
}
