//! With mappings of ours in place, a SIGBUS that is not theirs still ends the process: the handler
//! must not hide other people's faults. Each case runs in a process of its own, this one again.

use std::{
    io::Write,
    os::unix::process::ExitStatusExt,
    process::{Command, ExitCode},
};

use kura_env::{Disk, DiskPath};
use kura_host::HostDisk;

/// Its name, what it does, and the signal that ends it.
type Case = (&'static str, fn(), Option<i32>);

const CASES: [Case; 3] = [
    ("a fault in a sealed segment", fault_in_ours, None),
    ("a fault in a mapping of somebody else", fault_in_theirs, Some(libc::SIGBUS)),
    ("a SIGBUS that was sent", send_sigbus, Some(libc::SIGBUS)),
];

fn main() -> ExitCode {
    let asked = std::env::args().nth(1);
    if let Some((_, case, _)) = CASES.iter().find(|(name, ..)| Some(*name) == asked.as_deref()) {
        // A process that dies as it should leaves no core behind.
        let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
        rustix::process::setrlimit(rustix::process::Resource::Core, none).expect("less is allowed");
        case();
        return ExitCode::SUCCESS;
    }
    let this = std::env::current_exe().expect("the test knows its file");
    for (name, _, signal) in CASES {
        let status = Command::new(&this).arg(name).status().expect("the test starts itself");
        assert_eq!(status.signal(), signal, "{name}: {status}");
        assert_eq!(status.success(), signal.is_none(), "{name}: {status}");
    }
    ExitCode::SUCCESS
}

/// Puts the handler in place, as the first sealed file does, and then cuts that file.
fn fault_in_ours() {
    let root = tempfile::tempdir().expect("a temporary directory");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let held = runtime.block_on(async {
        let disk = HostDisk::new(root.path(), 1).expect("a disk");
        let file = disk.create(&DiskPath::new("segment")).await.expect("the name is free");
        file.append(vec![vec![7; 10_000].into()]).await.expect("there is room");
        file.freeze().await.expect("it can be sealed");
        file.read_at(0, 10_000).await.expect("it can be read")
    });
    let cut = std::fs::OpenOptions::new().write(true).open(root.path().join("segment"));
    cut.and_then(|file| file.set_len(0)).expect("it can be cut");
    assert!(held.iter().all(|&byte| byte == 0));
}

fn fault_in_theirs() {
    fault_in_ours();
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(&[7; 10_000]).expect("there is room");
    // SAFETY: the file is changed below on purpose: the fault is what the case is about.
    let mapped = unsafe { memmap2::Mmap::map(&file) }.expect("it can be mapped");
    file.set_len(0).expect("it can be cut");
    assert!(mapped.iter().all(|&byte| byte == 0), "nobody lays zeros over other people's mappings");
}

fn send_sigbus() {
    fault_in_ours();
    // SAFETY: sends a signal to this thread; no memory is involved.
    unsafe { libc::raise(libc::SIGBUS) };
}
