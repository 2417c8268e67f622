//! Names for what changes a disk, so that fault plans, listings of crash points and journals speak
//! of the same things.

use std::{fmt, fmt::Write as _};

use crate::DiskPath;

/// The calls of [`Disk`](crate::Disk) and [`File`](crate::File) that change what a crash leaves
/// behind or what others see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EffectKind {
    /// A file was created.
    Create,
    /// A directory was made.
    Mkdir,
    /// Bytes were written at the end.
    Append,
    /// Bytes were written at an offset.
    WriteAt,
    /// Space was reserved.
    Allocate,
    /// A name was moved.
    Rename,
    /// A name was removed.
    Unlink,
    /// Bytes and length were synced.
    SyncData,
    /// Names were synced.
    SyncDir,
    /// A lock was taken.
    Lock,
    /// A file was promised not to change any more.
    Freeze,
}

impl EffectKind {
    /// Every kind, in order.
    pub const ALL: [Self; 11] = [
        Self::Create,
        Self::Mkdir,
        Self::Append,
        Self::WriteAt,
        Self::Allocate,
        Self::Rename,
        Self::Unlink,
        Self::SyncData,
        Self::SyncDir,
        Self::Lock,
        Self::Freeze,
    ];

    /// The name of the call.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Mkdir => "mkdir",
            Self::Append => "append",
            Self::WriteAt => "write_at",
            Self::Allocate => "allocate",
            Self::Rename => "rename",
            Self::Unlink => "unlink",
            Self::SyncData => "sync_data",
            Self::SyncDir => "sync_dir",
            Self::Lock => "lock",
            Self::Freeze => "freeze",
        }
    }
}

/// One change to a disk.
///
/// Its `Display` names it exactly (`append blobs/0007.seg 4096+812`); [`DiskEffect::class`] leaves
/// out what differs from one file to the next (`append blobs/*.seg`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskEffect {
    /// The call.
    pub kind: EffectKind,
    /// What it is about; of a rename, the old name.
    pub path: DiskPath,
    /// The new name of a rename.
    pub to: Option<DiskPath>,
    /// Where bytes go; 0 where there are none.
    pub offset: u64,
    /// How many bytes; of an allocation, the length reserved for.
    pub len_bytes: u64,
}

impl DiskEffect {
    /// A change that is about a name only.
    #[must_use]
    pub fn named(kind: EffectKind, path: &DiskPath) -> Self {
        Self { kind, path: path.clone(), to: None, offset: 0, len_bytes: 0 }
    }

    /// A change of bytes.
    #[must_use]
    pub fn ranged(kind: EffectKind, path: &DiskPath, offset: u64, len_bytes: u64) -> Self {
        Self { kind, path: path.clone(), to: None, offset, len_bytes }
    }

    /// A rename.
    #[must_use]
    pub fn rename(from: &DiskPath, to: &DiskPath) -> Self {
        Self {
            kind: EffectKind::Rename,
            path: from.clone(),
            to: Some(to.clone()),
            offset: 0,
            len_bytes: 0,
        }
    }

    /// The name without ids, offsets and lengths, by which effects are counted and matched.
    #[must_use]
    pub fn class(&self) -> String {
        let mut class = String::with_capacity(48);
        class.push_str(self.kind.name());
        class.push(' ');
        push_path_class(&mut class, &self.path);
        if let Some(to) = &self.to {
            class.push_str(" -> ");
            push_path_class(&mut class, to);
        }
        class
    }
}

impl fmt::Display for DiskEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind.name())?;
        push_path(f, &self.path)?;
        if let Some(to) = &self.to {
            f.write_str(" -> ")?;
            push_path(f, to)?;
        }
        match self.kind {
            EffectKind::Append | EffectKind::WriteAt => {
                write!(f, " {}+{}", self.offset, self.len_bytes)
            }
            EffectKind::Allocate => write!(f, " {}", self.len_bytes),
            EffectKind::Create
            | EffectKind::Mkdir
            | EffectKind::Rename
            | EffectKind::Unlink
            | EffectKind::SyncData
            | EffectKind::SyncDir
            | EffectKind::Lock
            | EffectKind::Freeze => Ok(()),
        }
    }
}

/// A path in a class: `.` for the root, and `*` for every name that is an id.
#[must_use]
pub fn path_class(path: &DiskPath) -> String {
    let mut class = String::with_capacity(32);
    push_path_class(&mut class, path);
    class
}

fn push_path(out: &mut fmt::Formatter<'_>, path: &DiskPath) -> fmt::Result {
    out.write_str(if path.as_str().is_empty() { "." } else { path.as_str() })
}

fn push_path_class(out: &mut String, path: &DiskPath) {
    if path.as_str().is_empty() {
        out.push('.');
        return;
    }
    for (index, part) in path.as_str().split('/').enumerate() {
        if index > 0 {
            out.push('/');
        }
        let (stem, extension) = part.split_once('.').map_or((part, ""), |(a, b)| (a, b));
        // Ids hold digits; the two letters that spread files over directories may not.
        let spread = stem.len() == 2 && stem.bytes().all(|b| b.is_ascii_hexdigit());
        let is_id = spread || stem.bytes().any(|b| b.is_ascii_digit());
        out.push_str(if is_id { "*" } else { stem });
        if !extension.is_empty() {
            let _infallible = write!(out, ".{extension}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_leaves_out_ids_and_offsets() {
        let append = |path: &str| {
            DiskEffect::ranged(EffectKind::Append, &DiskPath::new(path), 4096, 812).class()
        };
        assert_eq!(append("blobs/0000000000000007.seg"), "append blobs/*.seg");
        assert_eq!(append("pool/ab/00ff.blob"), "append pool/*/*.blob");
        assert_eq!(append("RING.new"), "append RING.new");
        let rename = DiskEffect::rename(&DiskPath::new("tmp/17"), &DiskPath::new("RING"));
        assert_eq!(rename.class(), "rename tmp/* -> RING");
        assert_eq!(DiskEffect::named(EffectKind::SyncDir, &DiskPath::root()).class(), "sync_dir .");
    }

    #[test]
    fn the_exact_name_tells_where_and_how_much() {
        let effect = DiskEffect::ranged(EffectKind::Append, &DiskPath::new("a/1.seg"), 4096, 812);
        assert_eq!(effect.to_string(), "append a/1.seg 4096+812");
        let rename = DiskEffect::rename(&DiskPath::new("RING.new"), &DiskPath::new("RING"));
        assert_eq!(rename.to_string(), "rename RING.new -> RING");
    }
}
