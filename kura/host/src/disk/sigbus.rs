//! Survives a fault in a mapping: a file that was cut short or a sector that cannot be read costs
//! its bytes, not the process.
//!
//! Mappings enter themselves into a fixed table of atomics, which is all that the signal handler
//! reads. For a fault inside one of them the handler lays a page of zeros over the place and marks
//! the slot as damaged; the instruction is then retried and reads zeros, and a checksum further up
//! notices. For any other fault it restores the default action, and the process dies as it would
//! have without it.
//!
//! A slot is live while `start` is not zero. It is taken in the order `damaged`, `end`, `start` and
//! given back by clearing `start`; the handler believes an `end` only if `start` was the same
//! before and after.

use std::{
    io, mem, ptr,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
};

/// Mappings at once. Files beyond it are read with `pread`, which is slower and nothing worse.
pub(super) const SLOTS_MAX: usize = 4096;

struct Slot {
    taken: AtomicBool,
    start: AtomicUsize,
    end: AtomicUsize,
    damaged: AtomicBool,
}

static SLOTS: [Slot; SLOTS_MAX] = [const {
    Slot {
        taken: AtomicBool::new(false),
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        damaged: AtomicBool::new(false),
    }
}; SLOTS_MAX];

/// No slot at or above it was ever taken, so the handler need not look there.
static SLOTS_USED: AtomicUsize = AtomicUsize::new(0);
/// Set before the handler is installed.
static PAGE_BYTES: AtomicUsize = AtomicUsize::new(4096);
static FAULTS: AtomicU64 = AtomicU64::new(0);
/// As [`FAULTS`], but counted before the page is replaced.
static FAULTING: AtomicU64 = AtomicU64::new(0);

/// How many pages were replaced by zeros since the process started.
pub(super) fn faults() -> u64 {
    FAULTS.load(SeqCst)
}

/// Whether `bytes` lie in a mapping of which a page was replaced by zeros. They may have been right
/// when they were checked. Costs nothing until the first fault of the process.
pub(crate) fn may_be_zeros(bytes: &[u8]) -> bool {
    if FAULTING.load(SeqCst) == 0 || bytes.is_empty() {
        return false;
    }
    let used = SLOTS_USED.load(SeqCst);
    let address = bytes.as_ptr() as usize;
    SLOTS[..used].iter().any(|slot| slot.holds(address) && slot.damaged.load(SeqCst))
}

/// The entry of one mapping in the table. Must be dropped before its memory is unmapped.
pub(super) struct Registration(&'static Slot);

impl Registration {
    /// Enters `bytes` at `start`; nothing if the table is full or the handler cannot be installed.
    pub(super) fn new(start: usize, bytes: usize) -> Option<Self> {
        if !installed() {
            return None;
        }
        let free = |slot: &&Slot| slot.taken.compare_exchange(false, true, SeqCst, SeqCst).is_ok();
        let index = SLOTS.iter().position(|slot| free(&slot))?;
        SLOTS_USED.fetch_max(index + 1, SeqCst);
        let slot = &SLOTS[index];
        slot.damaged.store(false, SeqCst);
        slot.end.store(start + bytes, SeqCst);
        slot.start.store(start, SeqCst);
        Some(Self(slot))
    }

    /// Whether a page of it was replaced by zeros.
    pub(super) fn is_damaged(&self) -> bool {
        self.0.damaged.load(SeqCst)
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.0.start.store(0, SeqCst);
        self.0.taken.store(false, SeqCst);
    }
}

/// Installs the handler at the first call. Whether it is in place.
fn installed() -> bool {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    *INSTALLED.get_or_init(|| match install() {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, "no SIGBUS handler, so files are read without mappings");
            false
        }
    })
}

fn install() -> io::Result<()> {
    PAGE_BYTES.store(rustix::param::page_size(), SeqCst);
    // SAFETY: an all-zero sigaction is a valid value; the fields that matter are set below.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_sigbus;
    action.sa_sigaction = handler as usize;
    // SA_ONSTACK: a thread that is short of stack must not fault again in the handler.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: both pointers are valid for the call; the handler has the signature that SA_SIGINFO
    // asks for and is async-signal-safe (it touches atomics, mmap, sigaction and raise only).
    let failed = unsafe {
        libc::sigemptyset(&raw mut action.sa_mask);
        libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut())
    } != 0;
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

extern "C" fn on_sigbus(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    // SAFETY: the kernel passes a valid siginfo to a handler installed with SA_SIGINFO. si_addr is
    // only meaningful, and only used, when the code says that the kernel raised the fault.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    // Codes above zero come from the kernel; kill(2) and the like carry no address.
    if code > 0 && cover(address) {
        return;
    }
    // SAFETY: as in `install`; SIG_DFL needs no handler. The raised signal is blocked until this
    // handler returns and then ends the process.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = libc::SIG_DFL;
        libc::sigaction(signal, &raw const action, ptr::null_mut());
        libc::raise(signal);
    }
}

/// Lays a page of zeros over `address` if it lies in a live mapping. Async-signal-safe.
fn cover(address: usize) -> bool {
    let used = SLOTS_USED.load(SeqCst);
    let Some(slot) = SLOTS[..used].iter().find(|slot| slot.holds(address)) else {
        return false;
    };
    let page_bytes = PAGE_BYTES.load(SeqCst);
    let page = address & !(page_bytes - 1);
    slot.damaged.store(true, SeqCst);
    FAULTING.fetch_add(1, SeqCst);
    // SAFETY: `page` is a page of a live mapping of ours: the thread that faulted reads through a
    // handle that keeps it alive. Replacing it by anonymous zeros changes no address. errno belongs
    // to the interrupted code and is put back.
    unsafe {
        let errno = libc::__errno_location();
        let saved = *errno;
        let laid = libc::mmap(
            page as *mut libc::c_void,
            page_bytes,
            libc::PROT_READ,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
            -1,
            0,
        );
        *errno = saved;
        if laid == libc::MAP_FAILED {
            return false;
        }
    }
    FAULTS.fetch_add(1, SeqCst);
    true
}

impl Slot {
    fn holds(&self, address: usize) -> bool {
        let start = self.start.load(SeqCst);
        let end = self.end.load(SeqCst);
        start != 0 && self.start.load(SeqCst) == start && (start..end).contains(&address)
    }
}
