//! Where an artifact lives: a namespace, a space within it, and a key.
//!
//! [`Address::from_path`] is the only way from what a client sent to a name. Segments are checked
//! after percent-decoding, because that is what ends up in the key; names never become file paths.
//!
//! | path | namespace | space | key |
//! |---|---|---|---|
//! | `/cas/{sha256}`, `/ac/{sha256}` | `default` | content-addressed, action results | the digest |
//! | `/{namespace}/cas/{sha256}`, `/{namespace}/ac/{sha256}` | as given | as above | the digest |
//! | `/{namespace}/{key}` | as given | plain | all other segments, joined by `/` |
//! | `/{key}` | `default` | plain | as given |
//!
//! `cas` in front of anything but a digest is an error. `ac` is not: ccache's `subdirs` layout makes
//! directories of the first two hexadecimal digits of a key, and one of them is `ac`; so there a
//! last segment that is no digest means a plain key.
//!
//! A plain key that ends in `cas/{sha256}`, as from a client whose prefix has several segments, stays
//! a key of its own, and promises its digest like a content-addressed one.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::digest::Digest;

/// The namespace of paths that name none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Longest namespace, in bytes after decoding.
pub const NAMESPACE_BYTES_MAX: usize = 128;

/// Longest key, in bytes after decoding.
pub const KEY_BYTES_MAX: usize = 1024;

/// First segments that belong to the node itself.
pub const RESERVED: [&str; 6] = ["metrics", "primary", "ready", "replica", "status", "up"];

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

impl Space {
    /// The space with this number in the disk format.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Cas, Self::Ac, Self::Plain].into_iter().find(|space| space.number() == number)
    }

    /// Its number in the disk format. Never 0.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Cas => 1,
            Self::Ac => 2,
            Self::Plain => 3,
        }
    }
}

/// The full name of an artifact. Made only by [`Address::new`], which checks it.
///
/// Ordered by namespace, then space, then key: the order of [`Address::encode`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    namespace: String,
    space: Space,
    key: String,
}

/// Why something is not the name of an artifact.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The path has no leading slash.
    #[error("the path {path:?} does not begin with a slash")]
    NoPath {
        /// What was sent.
        path: String,
    },
    /// A segment of the path is empty: nothing behind a slash, or two slashes in a row.
    #[error("segment {position} of the path is empty")]
    EmptySegment {
        /// Which one, counted from 1.
        position: usize,
    },
    /// A segment is `.` or `..`.
    #[error("a segment of the path is {segment:?}")]
    DotSegment {
        /// What it is.
        segment: String,
    },
    /// A segment holds a control character, such as NUL.
    #[error("a segment of the path holds the control character U+{code:04X}")]
    Control {
        /// The character.
        code: u32,
    },
    /// A segment holds a slash that was percent-encoded.
    #[error("the segment {segment:?} holds an encoded slash")]
    EncodedSlash {
        /// The segment, decoded.
        segment: String,
    },
    /// A segment is not UTF-8 after decoding.
    #[error("segment {position} of the path is not UTF-8 after decoding")]
    NotUtf8 {
        /// Which one, counted from 1.
        position: usize,
    },
    /// The namespace or the key is too long.
    #[error("the {part} is {len_bytes} bytes long, and {limit_bytes} are allowed")]
    TooLong {
        /// `namespace` or `key`.
        part: &'static str,
        /// Its length after decoding.
        len_bytes: usize,
        /// The longest that is allowed.
        limit_bytes: usize,
    },
    /// A key that must be a digest is none.
    #[error("{key:?} is not a SHA-256 of 64 lower-case hexadecimal digits")]
    NotADigest {
        /// The key.
        key: String,
    },
    /// The first segment names a page of the node.
    #[error("the name {name:?} is reserved")]
    Reserved {
        /// The name.
        name: String,
    },
    /// Bytes that [`Address::encode`] did not make.
    #[error("{len_bytes} bytes are not an encoded address")]
    NotEncoded {
        /// How many bytes there were.
        len_bytes: usize,
    },
}

/// Why a query does not name a namespace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// There is none in it.
    #[error("the query names no namespace; write ?namespace_id=team-a")]
    None,
    /// There are more than one.
    #[error("the query names more than one namespace; ask for one after the other")]
    Several,
    /// Nobody can tell whether it stands for itself.
    #[error(
        "the namespace in the query holds a plus sign; write %20 for a blank and %2B for a plus sign"
    )]
    Plus,
    /// It is none.
    #[error(transparent)]
    Illegal(#[from] AddressError),
}

impl Address {
    /// Checks and makes an address.
    ///
    /// # Errors
    ///
    /// If the namespace is not one legal segment, the key not one or more of them joined by `/`,
    /// one of them is too long, or the space wants a digest and the key is none.
    pub fn new(
        namespace: impl Into<String>,
        space: Space,
        key: impl Into<String>,
    ) -> Result<Self, AddressError> {
        let (namespace, key) = (namespace.into(), key.into());
        check_segment(&namespace, 1)?;
        check_length("namespace", &namespace, NAMESPACE_BYTES_MAX)?;
        check_length("key", &key, KEY_BYTES_MAX)?;
        match space {
            Space::Cas | Space::Ac => {
                if Digest::parse(&key).is_none() {
                    return Err(AddressError::NotADigest { key });
                }
            }
            Space::Plain => {
                for (index, segment) in key.split('/').enumerate() {
                    check_segment(segment, index + 2)?;
                }
            }
        }
        Ok(Self { namespace, space, key })
    }

    /// Reads the path of a request as it was sent, percent-encoding and all, without its query.
    ///
    /// # Errors
    ///
    /// If the path names no artifact; the table at the top of this module says what does.
    pub fn from_path(path: &str) -> Result<Self, AddressError> {
        let Some(relative) = path.strip_prefix('/') else {
            return Err(AddressError::NoPath { path: path.to_owned() });
        };
        // Before decoding, so that a path of any length costs no more than one key.
        check_length("key", relative, 3 * (NAMESPACE_BYTES_MAX + KEY_BYTES_MAX))?;
        let segments = relative
            .split('/')
            .enumerate()
            .map(|(index, raw)| decode_segment(raw, index + 1))
            .collect::<Result<Vec<_>, _>>()?;
        let segments: Vec<&str> = segments.iter().map(Cow::as_ref).collect();
        if let Some(name) = segments.first().filter(|first| RESERVED.contains(first)) {
            return Err(AddressError::Reserved { name: (*name).to_owned() });
        }
        match segments.as_slice() {
            ["cas", rest @ ..] if !rest.is_empty() => {
                Self::new(DEFAULT_NAMESPACE, Space::Cas, rest.join("/"))
            }
            ["ac", key] if Digest::parse(key).is_some() => {
                Self::new(DEFAULT_NAMESPACE, Space::Ac, *key)
            }
            [namespace, "cas", rest @ ..] if !rest.is_empty() => {
                Self::new(*namespace, Space::Cas, rest.join("/"))
            }
            [namespace, "ac", key] if Digest::parse(key).is_some() => {
                Self::new(*namespace, Space::Ac, *key)
            }
            [key] => Self::new(DEFAULT_NAMESPACE, Space::Plain, *key),
            [namespace, rest @ ..] => Self::new(*namespace, Space::Plain, rest.join("/")),
            [] => Err(AddressError::EmptySegment { position: 1 }),
        }
    }

    /// The namespace whose content addresses a path stands for as a whole: `/cas`, `/{namespace}/cas`.
    /// `None` if it does not. What is wrong with the namespace is found when an address is made of it.
    #[must_use]
    pub fn content_of(path: &str) -> Option<Cow<'_, str>> {
        let relative = path.strip_prefix('/')?;
        if relative == "cas" {
            return Some(Cow::Borrowed(DEFAULT_NAMESPACE));
        }
        let namespace = relative.strip_suffix("/cas")?;
        decode_segment(namespace, 1).ok().filter(|decoded| !decoded.contains('/'))
    }

    /// The namespace that a query names, as in `namespace_id=team-a`; `project_handle` is another name for that. Others
    /// say nothing here. Percent-decoded as a path is: a plus sign, which forms use for a blank, has to be encoded.
    ///
    /// # Errors
    ///
    /// [`QueryError`] unless it names one legal namespace.
    pub fn namespace_of_query(query: &str) -> Result<String, QueryError> {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let mut named = pairs.filter(|(name, _)| ["namespace_id", "project_handle"].contains(name));
        let (_, namespace) = named.next().ok_or(QueryError::None)?;
        if named.next().is_some() {
            return Err(QueryError::Several);
        }
        if namespace.contains('+') {
            return Err(QueryError::Plus);
        }
        let namespace = decode_segment(namespace, 1)?;
        check_length("namespace", &namespace, NAMESPACE_BYTES_MAX)?;
        Ok(namespace.into_owned())
    }

    /// Whose artifact it is.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The kind of name it has.
    #[must_use]
    pub fn space(&self) -> Space {
        self.space
    }

    /// Its name within the namespace and the space.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The digest that the body must have, if the name says so.
    #[must_use]
    pub fn promised_digest(&self) -> Option<Digest> {
        match self.space {
            Space::Cas => Digest::parse(&self.key),
            Space::Ac => None,
            Space::Plain => {
                let (before, name) = self.key.rsplit_once('/')?;
                let folder = before.rsplit_once('/').map_or(before, |(_, folder)| folder);
                Digest::parse(name).filter(|_| folder == "cas")
            }
        }
    }

    /// The address as the key of a catalog: `namespace 0 space key 0`.
    ///
    /// Neither name holds a zero byte. So encodings sort as addresses do, none is the prefix of
    /// another, and those of a namespace stand together.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.namespace.len() + self.key.len() + 3);
        bytes.extend_from_slice(self.namespace.as_bytes());
        bytes.extend_from_slice(&[0, self.space.number()]);
        bytes.extend_from_slice(self.key.as_bytes());
        bytes.push(0);
        bytes
    }

    /// Reads what [`Address::encode`] made.
    ///
    /// # Errors
    ///
    /// If it did not make this.
    pub fn decode(bytes: &[u8]) -> Result<Self, AddressError> {
        let parts = || {
            let end = bytes.iter().position(|byte| *byte == 0)?;
            let namespace = str::from_utf8(&bytes[..end]).ok()?;
            let (space, key) = bytes[end + 1..].split_first()?;
            let key = str::from_utf8(key.strip_suffix(&[0])?).ok()?;
            Some((namespace, Space::from_number(*space)?, key))
        };
        let (namespace, space, key) =
            parts().ok_or(AddressError::NotEncoded { len_bytes: bytes.len() })?;
        Self::new(namespace, space, key)
    }
}

fn decode_segment(raw: &str, position: usize) -> Result<Cow<'_, str>, AddressError> {
    let segment = percent_decode_str(raw)
        .decode_utf8()
        .map_err(|_utf8| AddressError::NotUtf8 { position })?;
    check_segment(&segment, position)?;
    Ok(segment)
}

fn check_segment(segment: &str, position: usize) -> Result<(), AddressError> {
    if segment.is_empty() {
        return Err(AddressError::EmptySegment { position });
    }
    if segment == "." || segment == ".." {
        return Err(AddressError::DotSegment { segment: segment.to_owned() });
    }
    if let Some(control) = segment.chars().find(|c| c.is_control()) {
        return Err(AddressError::Control { code: control.into() });
    }
    if segment.contains('/') {
        return Err(AddressError::EncodedSlash { segment: segment.to_owned() });
    }
    Ok(())
}

fn check_length(part: &'static str, value: &str, limit_bytes: usize) -> Result<(), AddressError> {
    if value.len() <= limit_bytes {
        Ok(())
    } else {
        Err(AddressError::TooLong { part, len_bytes: value.len(), limit_bytes })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_query_names_one_namespace() {
        let named = Address::namespace_of_query;
        for (query, namespace) in [
            ("namespace_id=team", "team"),
            ("tenant_id=t&namespace_id=a%20b", "a b"),
            ("project_handle=a%2Bb&account_handle=x+y", "a+b"),
        ] {
            assert_eq!(named(query).as_deref(), Ok(namespace), "{query}");
        }
        assert_eq!(named(""), Err(QueryError::None));
        assert_eq!(named("tenant_id=t"), Err(QueryError::None));
        assert_eq!(named("namespace_id=a&project_handle=a"), Err(QueryError::Several));
        assert_eq!(named("namespace_id=a+b"), Err(QueryError::Plus));
        let long = format!("namespace_id={}", "x".repeat(NAMESPACE_BYTES_MAX + 1));
        for query in ["namespace_id=", "namespace_id=a%2fb", "namespace_id=%FF", &long] {
            assert!(matches!(named(query), Err(QueryError::Illegal(_))), "{query}");
        }
    }

    #[test]
    fn a_path_may_stand_for_all_content_of_a_namespace() {
        for (path, namespace) in [
            ("/cas", Some("default")),
            ("/team/cas", Some("team")),
            ("/a%20b/cas", Some("a b")),
            ("/a%2fb/cas", None),
            ("/a/b/cas", None),
            ("//cas", None),
            ("/cas/", None),
            ("/team/cast", None),
            ("cas", None),
        ] {
            assert_eq!(Address::content_of(path).as_deref(), namespace, "{path}");
        }
    }

    #[test]
    fn a_path_names_a_namespace_a_space_and_a_key() {
        let table = [
            (format!("/cas/{DIGEST}"), "default", Space::Cas, DIGEST),
            (format!("/ac/{DIGEST}"), "default", Space::Ac, DIGEST),
            (format!("/a-b/cas/{DIGEST}"), "a-b", Space::Cas, DIGEST),
            (format!("/a%20b/ac/{DIGEST}"), "a b", Space::Ac, DIGEST),
            ("/team/3f/9ab".to_owned(), "team", Space::Plain, "3f/9ab"),
            ("/team/ac/9ab".to_owned(), "team", Space::Plain, "ac/9ab"),
            ("/ac/9ab".to_owned(), "ac", Space::Plain, "9ab"),
            ("/0~aB_-=.x".to_owned(), "default", Space::Plain, "0~aB_-=.x"),
            ("/team/%c3%a9".to_owned(), "team", Space::Plain, "é"),
            ("/a/b/c/abc".to_owned(), "a", Space::Plain, "b/c/abc"),
            ("/cas".to_owned(), "default", Space::Plain, "cas"),
        ];
        for (path, namespace, space, key) in table {
            let address = Address::from_path(&path).unwrap();
            assert_eq!(
                (address.namespace(), address.space(), address.key()),
                (namespace, space, key),
                "{path}"
            );
        }
    }

    #[test]
    fn a_content_address_is_promised_behind_any_prefix() {
        let promised = |path: &str| Address::from_path(path).unwrap().promised_digest();
        let digest = Digest::parse(DIGEST);
        for prefix in ["", "/ns", "/a/b", "/a/b/c", "/ac/a"] {
            assert_eq!(promised(&format!("{prefix}/cas/{DIGEST}")), digest, "{prefix}");
        }
        for path in ["/a/b/ac/", "/a/b/xcas/", "/a/b/", "/ac/"] {
            assert_eq!(promised(&format!("{path}{DIGEST}")), None, "{path}");
        }
        for path in
            ["/a/b/cas/9ab".to_owned(), format!("/a/cas/{DIGEST}").replace("/cas/", "/b/cas/x/")]
        {
            assert_eq!(promised(&path), None, "{path}");
        }
    }

    #[test]
    fn a_path_is_checked_after_decoding() {
        let not_a_digest = |key: &str| AddressError::NotADigest { key: key.to_owned() };
        let dots = || AddressError::DotSegment { segment: "..".to_owned() };
        let table = [
            ("", AddressError::NoPath { path: String::new() }),
            ("*", AddressError::NoPath { path: "*".to_owned() }),
            ("/", AddressError::EmptySegment { position: 1 }),
            ("//k", AddressError::EmptySegment { position: 1 }),
            ("/ns/", AddressError::EmptySegment { position: 2 }),
            ("/ns//k", AddressError::EmptySegment { position: 2 }),
            ("/ns/../k", dots()),
            ("/ns/%2e%2E/k", dots()),
            ("/%2e%2e", dots()),
            ("/ns/%2e", AddressError::DotSegment { segment: ".".to_owned() }),
            ("/ns/a%00b", AddressError::Control { code: 0 }),
            ("/ns/a%0d%0ab", AddressError::Control { code: 13 }),
            ("/ns/a%7f", AddressError::Control { code: 127 }),
            ("/ns/a%2fb", AddressError::EncodedSlash { segment: "a/b".to_owned() }),
            ("/ns/%ff%fe", AddressError::NotUtf8 { position: 2 }),
            ("/cas/9ab", not_a_digest("9ab")),
            ("/ns/cas/9ab", not_a_digest("9ab")),
            ("/ns/cas/9ab/c", not_a_digest("9ab/c")),
            ("/up/x", AddressError::Reserved { name: "up".to_owned() }),
            ("/metrics", AddressError::Reserved { name: "metrics".to_owned() }),
        ];
        for (path, error) in table {
            assert_eq!(Address::from_path(path), Err(error), "{path}");
        }
        let upper = DIGEST.to_uppercase();
        assert_eq!(Address::from_path(&format!("/cas/{upper}")), Err(not_a_digest(&upper)));
    }

    #[test]
    fn lengths_are_limited_to_the_byte() {
        let path = |namespace: usize, key: usize| {
            Address::from_path(&format!("/{}/{}", "n".repeat(namespace), "%6b".repeat(key)))
        };
        let too_long =
            |part, len_bytes, limit_bytes| AddressError::TooLong { part, len_bytes, limit_bytes };
        assert!(path(128, 1024).is_ok());
        assert_eq!(path(129, 1), Err(too_long("namespace", 129, 128)));
        assert_eq!(path(1, 1025), Err(too_long("key", 1025, 1024)));
        assert_eq!(path(1, 9000), Err(too_long("key", 27002, 3456)));
    }

    #[test]
    fn what_was_not_encoded_is_not_decoded() {
        for bytes in [&b""[..], b"ns", b"ns\0", b"ns\0\x03", b"ns\0\x03key", b"ns\0\x09key\0"] {
            let error = AddressError::NotEncoded { len_bytes: bytes.len() };
            assert_eq!(Address::decode(bytes), Err(error), "{bytes:?}");
        }
        assert!(Address::decode(b"ns\0\x03a\0b\0").is_err());
        assert!(Address::decode(b"ns\0\x01key\0").is_err());
    }

    fn any_address() -> impl Strategy<Value = Address> {
        let segment = "[a-c!-.0-1é]{1,4}".prop_filter("dots", |s| s != "." && s != "..");
        let plain = prop::collection::vec(segment.clone(), 1..3).prop_map(|parts| parts.join("/"));
        let name = prop_oneof![
            plain.prop_map(|key| (Space::Plain, key)),
            any::<[u8; 1]>().prop_map(|seed| (Space::Cas, Digest::of(&seed).to_string())),
            any::<[u8; 1]>().prop_map(|seed| (Space::Ac, Digest::of(&seed).to_string())),
        ];
        (segment, name)
            .prop_map(|(namespace, (space, key))| Address::new(namespace, space, key).unwrap())
    }

    proptest! {
        #[test]
        fn encoding_round_trips_and_keeps_the_order(a in any_address(), b in any_address()) {
            let (encoded_a, encoded_b) = (a.encode(), b.encode());
            prop_assert_eq!(Address::decode(&encoded_a), Ok(a.clone()));
            prop_assert_eq!(encoded_a.cmp(&encoded_b), a.cmp(&b));
            if a != b {
                prop_assert!(!encoded_b.starts_with(&encoded_a), "one is a prefix of the other");
            }
        }
    }
}
