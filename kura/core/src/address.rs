//! Where an artifact lives: a namespace, a space within it, and a key.

/// The kind of name an artifact has. The number is part of the disk format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Space {
    /// Content-addressed: the key is the SHA-256 of the body, in hexadecimal.
    Cas = 1,
    /// Action results, by the digest of their action.
    Ac = 2,
    /// Anything under a key that the client chose.
    Plain = 3,
}

/// The full name of an artifact. Made only by [`Address::new`], which checks it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    namespace: String,
    space: Space,
    key: String,
}
