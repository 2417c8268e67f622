//! A small ext4 in a file, for what no file system in memory can show: a cut of the power, an error
//! that makes it read-only, a freeze. Takes the right to mount and a loop device.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::loop_disk::{LoopDisk, run};

/// What becomes of the journal when the power is cut. The numbers are the kernel's.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    /// Everything reaches the device first: the kindest.
    AfterSync = 0,
    /// The journal reaches it, the rest of what was not synced is lost.
    JournalKept = 1,
    /// All that was not synced is lost: a plug that is pulled.
    Everything = 2,
}

/// `EXT4_IOC_SHUTDOWN`: `_IOR('X', 125, __u32)`, by way of perl, because the suites hold no unsafe code.
const SHUTDOWN: &str = r#"
    my $how = pack("L", $ARGV[1]);
    open(my $at, "<", $ARGV[0]) or die "open: $!\n";
    defined(ioctl($at, 0x8004587d, $how)) or die "EXT4_IOC_SHUTDOWN: $!\n";
"#;

/// Thaws in any case, also when the test that asked for it is long gone.
const FREEZE: &str =
    r#"trap 'fsfreeze -u "$1"' EXIT; fsfreeze -f "$1" && echo frozen && sleep "$2""#;

/// A mounted ext4 of its own; unmounted on drop, which gives the loop device back.
pub struct Ext4Disk {
    freezer: Option<Child>,
    disk: LoopDisk,
}

impl Ext4Disk {
    /// Makes and mounts one, or says why that cannot be.
    ///
    /// # Errors
    ///
    /// What stands in the way: the right to mount, or a program.
    pub fn mount(size_mib: u64) -> Result<Self, String> {
        let mut make = Command::new("mkfs.ext4");
        // Nothing is set aside for the superuser, so that full is full.
        make.args(["-q", "-F", "-m", "0"]);
        let disk = LoopDisk::mount(size_mib, &mut make, "ext4", "loop,errors=remount-ro")?;
        Ok(Self { freezer: None, disk })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.disk.path()
    }

    /// Cuts the power: from now on everything fails, and what did not reach the device never will. The
    /// processes go on; who plays them kills them.
    ///
    /// # Errors
    ///
    /// Why it could not be cut.
    pub fn cut(&self, how: Cut) -> Result<(), String> {
        let how = (how as u32).to_string();
        run(Command::new("perl").args(["-e", SHUTDOWN]).arg(self.path()).arg(how))
    }

    /// The power is back: mounts anew, which replays the journal. No process may have a file open.
    pub fn restore(&self) {
        self.disk.mount_again();
    }

    /// Has the kernel find an error in the file system, at which it makes it read-only under all open
    /// files. (`mount -o remount,ro` refuses while a file is open for writing.)
    ///
    /// # Errors
    ///
    /// Why it has no error.
    pub fn fail(&self) -> Result<(), String> {
        let mut found = Command::new("findmnt");
        let found = found.args(["-n", "-o", "SOURCE"]).arg(self.path()).output();
        let device = String::from_utf8(found.map_err(|error| format!("findmnt: {error}"))?.stdout);
        let device = device.expect("devices have names in ASCII");
        let Some(device) = device.trim().strip_prefix("/dev/loop") else {
            return Err(format!("it is mounted from {device:?} and not from a loop device"));
        };
        let trigger = format!("/sys/fs/ext4/loop{device}/trigger_fs_error");
        fs::write(&trigger, "a test").map_err(|error| format!("{trigger}: {error}"))
    }

    /// Freezes it for so long. A process of its own thaws it.
    ///
    /// # Errors
    ///
    /// Why it does not freeze.
    pub fn freeze(&mut self, time: Duration) -> Result<(), String> {
        let mut shell = Command::new("bash");
        shell.args(["-c", FREEZE, "bash"]).arg(self.path()).arg(time.as_secs_f64().to_string());
        // In a group of its own, which no signal to the suite reaches.
        shell.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut freezer = shell.spawn().map_err(|error| format!("bash: {error}"))?;
        let mut said = [0; 6];
        let mut stdout = freezer.stdout.take().expect("its output is piped");
        let frozen = std::io::Read::read_exact(&mut stdout, &mut said);
        if frozen.is_err() {
            freezer.wait().expect("it is our child");
            return Err("fsfreeze is not allowed here".to_owned());
        }
        self.freezer = Some(freezer);
        Ok(())
    }

    /// Whether it is frozen.
    pub fn is_frozen(&mut self) -> bool {
        let ended = |freezer: &mut Child| freezer.try_wait().expect("it is our child").is_some();
        self.freezer.as_mut().is_some_and(|freezer| !ended(freezer))
    }
}

impl Drop for Ext4Disk {
    fn drop(&mut self) {
        if let Some(mut freezer) = self.freezer.take() {
            // What is frozen cannot be unmounted for good, and thaws by itself.
            freezer.wait().ok();
        }
    }
}
