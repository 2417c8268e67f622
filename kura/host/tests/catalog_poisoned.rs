//! A catalog whose journal cannot be written: reads go on, writes fail, and reopening it in process
//! heals it. In a process of its own, because the failure is made by a limit of the process.

use bytes::Bytes;
use kura_env::{Batch, Catalog, CatalogError, CatalogHealth, CommitDurability, Entropy, Keyspace};
use kura_host::{HostCatalog, HostEntropy};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const ROWS: Keyspace = Keyspace("rows");

/// Where files end while writes are to fail. Behind what the first commits write.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

fn limit_files_to(bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: bytes, maximum }).expect("a soft limit is ours");
}

/// Makes writes beyond the limit fail with an error instead of ending the process.
fn survive_the_limit() {
    // SAFETY: ignoring a signal installs no handler.
    let before = unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    assert_ne!(before, libc::SIG_ERR);
}

async fn commit(catalog: &HostCatalog, key: u32, bytes: usize) -> Result<(), CatalogError> {
    // Noise, because the journal compresses large values.
    let mut value = vec![0; bytes];
    HostEntropy.stream("value").fill(&mut value);
    let mut batch = Batch::default();
    batch.put(ROWS, key.to_be_bytes().to_vec(), value);
    catalog.commit(batch, CommitDurability::Synced).await
}

async fn keys(catalog: &HostCatalog) -> Vec<u32> {
    let rows = catalog.range(ROWS, &[], &[], 10_000).await.expect("reads go on");
    let key = |key: &Bytes| u32::from_be_bytes(key[..].try_into().expect("keys are four bytes"));
    rows.iter().map(|(k, _)| key(k)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poisoned_catalog_reads_on_and_is_healed_by_opening_it_again() {
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let catalog = HostCatalog::new(root.path().join("catalog"), &[ROWS]).unwrap();
    catalog.open().await.unwrap();
    survive_the_limit();
    for round in 0..3_u32 {
        let first = round * 100;
        for n in 0..5 {
            commit(&catalog, first + n, 1000).await.unwrap();
        }
        let acknowledged = keys(&catalog).await;

        limit_files_to(Some(FILE_BYTES_MAX));
        let failed = commit(&catalog, first + 50, 2 * 1024 * 1024).await.unwrap_err();
        assert!(matches!(failed, CatalogError::Io(_)), "{failed}");
        assert!(matches!(catalog.health(), CatalogHealth::Poisoned(_)));
        assert_eq!(keys(&catalog).await, acknowledged);

        // Room alone does not heal it.
        limit_files_to(None);
        let refused = commit(&catalog, first + 51, 10).await.unwrap_err();
        assert!(matches!(refused, CatalogError::Poisoned(_)), "{refused}");

        catalog.open().await.unwrap();
        assert_eq!(catalog.health(), CatalogHealth::Open);
        let found = keys(&catalog).await;
        // The failed batch is unknown, everything acknowledged is there, the refused one is not.
        assert!(acknowledged.iter().all(|key| found.contains(key)), "{found:?}");
        assert!(!found.contains(&(first + 51)), "{found:?}");
        commit(&catalog, first + 52, 10).await.unwrap();
        assert!(keys(&catalog).await.contains(&(first + 52)));
    }
}
