//! The addresses of peers: how they are written, and what is wrong with one.

/// What introduces an address, and says nothing.
const SCHEME: &str = "http://";

/// Peers that one node may have. All follow all, so a mesh this large has other problems first.
const PEERS_MAX: usize = 1000;

/// The longest name of a host that DNS knows.
const HOST_BYTES_MAX: usize = 253;

/// Why a list of peers cannot be read; each names the entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PeerError {
    /// Nothing between two commas.
    #[error("whose entry {0} is empty")]
    Empty(usize),
    /// Encryption is not there yet.
    #[error("whose entry {0:?} asks for TLS, which the peer plane does not speak; write {1:?}")]
    Tls(String, String),
    /// Something follows the port.
    #[error("whose entry {0:?} has more than a host and a port; write {1:?}")]
    Path(String, String),
    /// No port.
    #[error("whose entry {0:?} has no port; write {1:?}")]
    NoPort(String, String),
    /// Not a port.
    #[error("whose entry {0:?} has no port from 1 to 65535 behind its colon")]
    BadPort(String),
    /// An IPv6 address without brackets.
    #[error("whose entry {0:?} is an IPv6 address without brackets; write \"[ADDRESS]:PORT\"")]
    NoBrackets(String),
    /// Not the name of a host.
    #[error("whose entry {0:?} names no host")]
    BadHost(String),
    /// More than anybody has.
    #[error("which has more than {PEERS_MAX} entries")]
    TooMany,
}

/// Reads entries between commas into `host:port`, in their order, each once.
///
/// # Errors
///
/// What is wrong with the first entry that is not an address.
pub(crate) fn read(text: &str, default_port: u16) -> Result<Vec<String>, PeerError> {
    let mut peers = Vec::new();
    if text.trim().is_empty() {
        return Ok(peers);
    }
    for (place, entry) in text.split(',').enumerate() {
        if place == PEERS_MAX {
            return Err(PeerError::TooMany);
        }
        let entry = entry.trim();
        if entry.is_empty() {
            return Err(PeerError::Empty(place + 1));
        }
        let peer = read_entry(entry, default_port)?;
        if !peers.contains(&peer) {
            peers.push(peer);
        }
    }
    Ok(peers)
}

fn read_entry(entry: &str, default_port: u16) -> Result<String, PeerError> {
    let found = || entry.to_owned();
    if let Some(rest) = entry.strip_prefix("https://") {
        return Err(PeerError::Tls(found(), format!("{SCHEME}{rest}")));
    }
    let authority = entry.strip_prefix(SCHEME).unwrap_or(entry);
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    if let Some((authority, _)) = authority.split_once('/') {
        return Err(PeerError::Path(found(), authority.to_owned()));
    }
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            address.parse::<std::net::Ipv6Addr>().map_err(|_| PeerError::BadHost(found()))?;
            (&authority[..address.len() + 2], port.strip_prefix(':'))
        }
        None => match authority.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => return Err(PeerError::NoBrackets(found())),
            Some((host, port)) => {
                (name(host).ok_or_else(|| PeerError::BadHost(found()))?, Some(port))
            }
            None => (name(authority).ok_or_else(|| PeerError::BadHost(found()))?, None),
        },
    };
    let Some(port) = port else {
        return Err(PeerError::NoPort(found(), format!("{host}:{default_port}")));
    };
    match port.parse::<u16>() {
        Ok(port) if port > 0 => Ok(format!("{host}:{port}")),
        Ok(_) | Err(_) => Err(PeerError::BadPort(found())),
    }
}

/// The name of a host, or an IPv4 address.
fn name(host: &str) -> Option<&str> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let is_name = (1..=HOST_BYTES_MAX).contains(&host.len()) && host.bytes().all(legal);
    is_name.then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_read_each_once_and_in_order() {
        for (text, peers) in [
            ("", &[][..]),
            ("b:7443", &["b:7443"]),
            ("b:1,http://a:2/, b:1", &["b:1", "a:2"]),
            ("http://10.0.0.1:7443,[::1]:65535", &["10.0.0.1:7443", "[::1]:65535"]),
            (
                "kura-0.kura.build.svc.cluster.local:7443",
                &["kura-0.kura.build.svc.cluster.local:7443"],
            ),
        ] {
            assert_eq!(read(text, 7443).unwrap(), peers, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_named_with_what_to_write() {
        for (text, told) in [
            ("a:1,,b:2", "whose entry 2 is empty"),
            ("a:1,", "whose entry 2 is empty"),
            ("a:1,b", "whose entry \"b\" has no port; write \"b:7443\""),
            ("[::1]", "whose entry \"[::1]\" has no port; write \"[::1]:7443\""),
            ("a:", "whose entry \"a:\" has no port from 1 to 65535 behind its colon"),
            ("a:0", "whose entry \"a:0\" has no port from 1 to 65535 behind its colon"),
            ("a:65536", "whose entry \"a:65536\" has no port from 1 to 65535 behind its colon"),
            ("[::1]x:1", "whose entry \"[::1]x:1\" has no port; write \"[::1]:7443\""),
            (
                "::1:7443",
                "whose entry \"::1:7443\" is an IPv6 address without brackets; write \"[ADDRESS]:PORT\"",
            ),
            ("[a]:1", "whose entry \"[a]:1\" names no host"),
            (":1", "whose entry \":1\" names no host"),
            ("user@a:1", "whose entry \"user@a:1\" names no host"),
            ("a b:1", "whose entry \"a b:1\" names no host"),
            (
                "http://a:1/x",
                "whose entry \"http://a:1/x\" has more than a host and a port; write \"a:1\"",
            ),
            (
                "https://a:1",
                "whose entry \"https://a:1\" asks for TLS, which the peer plane does not speak; write \
                 \"http://a:1\"",
            ),
        ] {
            assert_eq!(read(text, 7443).unwrap_err().to_string(), told, "{text}");
        }
        let many = vec!["a:1"; PEERS_MAX + 1].join(",");
        assert_eq!(read(&many, 7443), Err(PeerError::TooMany));
    }
}
