//! Follows where the requests of one HTTP/1 connection begin and end, and finds those that leave it
//! open to doubt.
//!
//! The HTTP library in use strips a Content-Length that stands beside a Transfer-Encoding, takes one
//! of two equal Content-Lengths, and asks for no Host, so its callers cannot see any of that. The
//! caller feeds the bytes of the connection here as they arrive, and asks before it answers a
//! request whether [`Framing::refusal`] covers it. What was refused once stays refused: behind a
//! request whose end is in doubt nothing can be trusted to be a request.
//!
//! How the bytes are cut into pieces makes no difference. Bodies are skipped, not looked at, and a
//! connection that opens with the preface of HTTP/2 is not followed at all.

/// Longest head of a request, in bytes.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Most header lines in one head.
pub const HEADERS_MAX: usize = 100;

/// A head buffer up to this size is kept for the next request.
const HEAD_BYTES_KEPT: usize = 4 * 1024;

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing arrived yet, or the beginning of what may be the preface of HTTP/2.
    Opening,
    /// Within the head of a request.
    Head,
    /// Within the body of a request.
    Body,
    /// Between two requests.
    Between,
    /// It speaks HTTP/2.
    Http2,
    /// No longer followed: a request was refused.
    Refused,
}

/// What is wrong with the frame of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// HTTP/1.1 without a Host, or with an empty list of them.
    #[error("there is no Host header")]
    MissingHost,
    /// More than one Host.
    #[error("there is more than one Host header")]
    RepeatedHost,
    /// More than one Content-Length, equal or not.
    #[error("there is more than one Content-Length header")]
    RepeatedLength,
    /// A Content-Length that is no number.
    #[error("the Content-Length is not a number")]
    InvalidLength,
    /// Both a Content-Length and a Transfer-Encoding.
    #[error("there is a Content-Length and a Transfer-Encoding")]
    LengthWithEncoding,
    /// A Transfer-Encoding that is not `chunked` alone, or is there twice, or in HTTP/1.0. Nothing
    /// decodes any other: its bytes would be stored as they came.
    #[error("the Transfer-Encoding is not chunked")]
    UnknownEncoding,
    /// The head is longer than [`HEAD_BYTES_MAX`] or has more lines than [`HEADERS_MAX`].
    #[error("the head is over {HEAD_BYTES_MAX} bytes or {HEADERS_MAX} lines")]
    HeadTooLarge,
    /// This is not HTTP/1.
    #[error("this is no request")]
    Unreadable,
}

/// From which request on a connection is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The first refused request, counted from 0 on this connection.
    pub request: u64,
    /// What is wrong with it.
    pub violation: Violation,
}

/// Follows one connection.
#[derive(Debug)]
pub struct Framing {
    state: State,
    /// Good heads so far; also the number of the request whose head comes next.
    heads: u64,
    /// The head that is arriving. At most [`HEAD_BYTES_MAX`] bytes are kept from one call to the
    /// next.
    head: Vec<u8>,
    /// Where in `head` its last line begins.
    line_start: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// So many bytes of the preface of HTTP/2 arrived, and nothing else.
    Opening(usize),
    Head,
    /// A body of known length of which so many bytes are missing. Never 0.
    Length(u64),
    Chunked(Chunk),
    Http2,
    Refused(Refusal),
}

/// Where a chunked body stands.
#[derive(Clone, Copy, Debug)]
enum Chunk {
    /// Before the first digit of a size.
    Start,
    /// Behind at least one digit; the size so far.
    Size(u64),
    /// In the white space behind the size.
    Blank(u64),
    /// In an extension, which ends at the next CR.
    Extension(u64),
    /// The LF that ends the size line is next.
    SizeLf(u64),
    /// In the data, of which so many bytes are missing. Never 0.
    Data(u64),
    DataCr,
    DataLf,
    /// At the start of a trailer line, or of the empty line that ends the body.
    EndCr,
    EndLf,
    Trailer,
    TrailerLf,
    /// Behind the last byte.
    Done,
}

impl Default for Framing {
    fn default() -> Self {
        Self { state: State::Opening(0), heads: 0, head: Vec::new(), line_start: 0 }
    }
}

impl Framing {
    /// Takes the next bytes that the client sent.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = match self.state {
                State::Opening(matched) => self.take_preface(matched, bytes),
                State::Head => self.take_head(bytes),
                State::Length(left) => {
                    let (taken, left) = skip(left, bytes);
                    self.state = if left == 0 { State::Head } else { State::Length(left) };
                    taken
                }
                State::Chunked(chunk) => self.take_chunk(chunk, bytes),
                State::Http2 | State::Refused(_) => return,
            };
            bytes = &bytes[taken..];
        }
    }

    /// Where the connection stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Opening(_) => Phase::Opening,
            State::Head if self.head.is_empty() => Phase::Between,
            State::Head => Phase::Head,
            State::Length(_) | State::Chunked(_) => Phase::Body,
            State::Http2 => Phase::Http2,
            State::Refused(_) => Phase::Refused,
        }
    }

    /// What to answer 400, if anything: this request and all behind it.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self.state {
            State::Refused(refusal) => Some(refusal),
            State::Opening(_)
            | State::Head
            | State::Length(_)
            | State::Chunked(_)
            | State::Http2 => None,
        }
    }

    fn take_preface(&mut self, matched: usize, bytes: &[u8]) -> usize {
        let expected = &PREFACE[matched..];
        let same = expected.iter().zip(bytes).take_while(|(a, b)| a == b).count();
        if matched + same == PREFACE.len() {
            self.state = State::Http2;
        } else if same == bytes.len() {
            self.state = State::Opening(matched + same);
        } else {
            self.state = State::Head;
            // It looked like a preface up to here, and it holds the end of a head: so it can be
            // refused, and then what follows is not taken any more.
            self.feed(&PREFACE[..matched + same]);
        }
        same
    }

    fn take_head(&mut self, bytes: &[u8]) -> usize {
        let line_end = bytes.iter().position(|byte| *byte == b'\n');
        let taken = line_end.map_or(bytes.len(), |at| at + 1);
        self.head.extend_from_slice(&bytes[..taken]);
        let line_is_blank = matches!(&self.head[self.line_start..], b"\n" | b"\r\n");
        if self.head.len() > HEAD_BYTES_MAX {
            self.refuse(Violation::HeadTooLarge);
        } else if line_is_blank && self.line_start == 0 {
            // Empty lines in front of a request are skipped.
            self.head.clear();
        } else if line_is_blank {
            match body_of(&self.head) {
                Ok(body) => {
                    self.state = body;
                    self.heads += 1;
                    self.clear_head();
                }
                Err(violation) => self.refuse(violation),
            }
        } else if line_end.is_some() {
            self.line_start = self.head.len();
        }
        taken
    }

    fn take_chunk(&mut self, chunk: Chunk, bytes: &[u8]) -> usize {
        let (taken, next) = if let Chunk::Data(left) = chunk {
            let (taken, left) = skip(left, bytes);
            (taken, Some(if left == 0 { Chunk::DataCr } else { Chunk::Data(left) }))
        } else {
            (1, chunk.after(bytes[0]))
        };
        match next {
            Some(Chunk::Done) => self.state = State::Head,
            Some(chunk) => self.state = State::Chunked(chunk),
            // The request whose body this is has been let through; it fails while its body is read.
            None => self.refuse(Violation::Unreadable),
        }
        taken
    }

    fn refuse(&mut self, violation: Violation) {
        self.state = State::Refused(Refusal { request: self.heads, violation });
        self.head = Vec::new();
        self.line_start = 0;
    }

    fn clear_head(&mut self) {
        self.head.clear();
        self.head.shrink_to(HEAD_BYTES_KEPT);
        self.line_start = 0;
    }
}

impl Chunk {
    /// What follows on `byte`; nothing if it may not stand here. Not to be asked about data.
    fn after(self, byte: u8) -> Option<Self> {
        let behind_size = |size: u64| match byte {
            b'\t' | b' ' => Some(Self::Blank(size)),
            b';' => Some(Self::Extension(size)),
            b'\r' => Some(Self::SizeLf(size)),
            _ => None,
        };
        match (self, byte) {
            (Self::Start, _) => Self::Size(0).grow(byte),
            (Self::Size(size), _) => self.grow(byte).or_else(|| behind_size(size)),
            (Self::Blank(size), _) => behind_size(size),
            (Self::Extension(size), b'\r') => Some(Self::SizeLf(size)),
            (Self::Extension(_), b'\n') => None,
            (Self::Extension(_), _) => Some(self),
            (Self::SizeLf(0), b'\n') => Some(Self::EndCr),
            (Self::SizeLf(size), b'\n') => Some(Self::Data(size)),
            (Self::DataCr, b'\r') => Some(Self::DataLf),
            (Self::DataLf, b'\n') => Some(Self::Start),
            (Self::EndCr, b'\r') => Some(Self::EndLf),
            (Self::EndLf, b'\n') => Some(Self::Done),
            (Self::EndCr, _) => Some(Self::Trailer),
            (Self::Trailer, b'\r') => Some(Self::TrailerLf),
            (Self::Trailer, _) => Some(self),
            (Self::TrailerLf, b'\n') => Some(Self::EndCr),
            (
                Self::SizeLf(_)
                | Self::Data(_)
                | Self::DataCr
                | Self::DataLf
                | Self::EndLf
                | Self::TrailerLf
                | Self::Done,
                _,
            ) => None,
        }
    }

    /// A size with one more digit; nothing if `byte` is none or the size leaves 64 bits.
    fn grow(self, byte: u8) -> Option<Self> {
        let Self::Size(size) = self else { return None };
        let digit = char::from(byte).to_digit(16)?;
        Some(Self::Size(size.checked_mul(16)?.checked_add(u64::from(digit))?))
    }
}

/// Skips up to `left` bytes: how many are there, and how many are still missing.
fn skip(left: u64, bytes: &[u8]) -> (usize, u64) {
    match usize::try_from(left) {
        Ok(left) if left <= bytes.len() => (left, 0),
        _ => (bytes.len(), left - bytes.len() as u64),
    }
}

/// What follows a complete head.
fn body_of(head: &[u8]) -> Result<State, Violation> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(len)) if len == head.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Violation::HeadTooLarge),
        Ok(_) | Err(_) => return Err(Violation::Unreadable),
    }
    let values = |name: &'static str| {
        let named = move |h: &&httparse::Header<'_>| h.name.eq_ignore_ascii_case(name);
        request.headers.iter().filter(named).map(|h| h.value)
    };
    let is_http_11 = request.version == Some(1);
    match values("host").count() {
        0 if is_http_11 => return Err(Violation::MissingHost),
        0 | 1 => {}
        _ => return Err(Violation::RepeatedHost),
    }
    let lengths: Vec<&[u8]> = values("content-length").collect();
    let encodings: Vec<&[u8]> = values("transfer-encoding").collect();
    match (lengths.as_slice(), encodings.as_slice()) {
        ([], []) => Ok(State::Head),
        ([length], []) => match parse_length(length).ok_or(Violation::InvalidLength)? {
            0 => Ok(State::Head),
            left => Ok(State::Length(left)),
        },
        ([_, _, ..], []) => Err(Violation::RepeatedLength),
        ([], [encoding]) if is_http_11 && is_chunked(encoding) => Ok(State::Chunked(Chunk::Start)),
        ([], _) => Err(Violation::UnknownEncoding),
        ([_, ..], [_, ..]) => Err(Violation::LengthWithEncoding),
    }
}

/// Digits only: a sign or white space, which the library would trim or take, is in doubt.
fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(value).ok()?.parse().ok()
}

fn is_chunked(value: &[u8]) -> bool {
    value.trim_ascii().eq_ignore_ascii_case(b"chunked")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fed(bytes: &[u8]) -> Framing {
        let mut framing = Framing::default();
        framing.feed(bytes);
        framing
    }

    /// The state after `headers` of an HTTP/1.1 request with a Host, behind one good request.
    fn behind(headers: &str) -> (Phase, Option<Refusal>) {
        let good = "PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
        let next = format!("PUT /b HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        let framing = fed(format!("{good}{next}").as_bytes());
        (framing.phase(), framing.refusal())
    }

    #[test]
    fn doubtful_requests_are_refused_and_those_before_are_not() {
        let table = [
            ("Content-Length: 1\r\nContent-Length: 1\r\n", Violation::RepeatedLength),
            ("Content-Length: 1\r\ncontent-length: 2\r\n", Violation::RepeatedLength),
            ("Content-Length: 1, 1\r\n", Violation::InvalidLength),
            ("Content-Length: +1\r\n", Violation::InvalidLength),
            ("Content-Length: 99999999999999999999\r\n", Violation::InvalidLength),
            ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", Violation::LengthWithEncoding),
            ("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n", Violation::LengthWithEncoding),
            ("Transfer-Encoding: chunked, gzip\r\n", Violation::UnknownEncoding),
            ("Transfer-Encoding: gzip, chunked\r\n", Violation::UnknownEncoding),
            ("Transfer-Encoding: chunked, chunked\r\n", Violation::UnknownEncoding),
            ("Transfer-Encoding: identity\r\n", Violation::UnknownEncoding),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                Violation::UnknownEncoding,
            ),
            ("Host: b\r\n", Violation::RepeatedHost),
            ("no colon\r\n", Violation::Unreadable),
        ];
        for (headers, violation) in table {
            let refusal = Some(Refusal { request: 1, violation });
            assert_eq!(behind(headers), (Phase::Refused, refusal), "{headers:?}");
        }
        for fine in ["", "Content-Length: 0\r\n"] {
            assert_eq!(behind(fine), (Phase::Between, None), "{fine:?}");
        }
        for fine in ["Content-Length: 1\r\n", "Transfer-Encoding:  Chunked \r\n"] {
            assert_eq!(behind(fine), (Phase::Body, None), "{fine:?}");
        }
    }

    #[test]
    fn only_http_1_0_needs_no_host_and_knows_no_encoding() {
        let violation = |request: &[u8]| fed(request).refusal().map(|refusal| refusal.violation);
        assert_eq!(violation(b"GET / HTTP/1.1\r\n\r\n"), Some(Violation::MissingHost));
        assert_eq!(violation(b"GET / HTTP/1.0\r\n\r\n"), None);
        assert_eq!(
            violation(b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
            Some(Violation::UnknownEncoding)
        );
    }

    #[test]
    fn heads_are_limited_by_bytes_and_by_lines() {
        let lines = |count: usize| {
            let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a: b\r\n".repeat(count));
            fed(head.as_bytes()).refusal().map(|refusal| refusal.violation)
        };
        assert_eq!(lines(HEADERS_MAX - 1), None);
        assert_eq!(lines(HEADERS_MAX), Some(Violation::HeadTooLarge));
        let bytes = |count: usize| {
            let head = "GET / HTTP/1.1\r\nHost: \r\n\r\n";
            let host = "h".repeat(count - head.len());
            let head = head.replace("Host: ", &format!("Host: {host}"));
            fed(head.as_bytes()).refusal().map(|refusal| refusal.violation)
        };
        assert_eq!(bytes(HEAD_BYTES_MAX), None);
        assert_eq!(bytes(HEAD_BYTES_MAX + 1), Some(Violation::HeadTooLarge));
    }

    #[test]
    fn phases_are_told_apart() {
        let chunked = "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let table = [
            (String::new(), Phase::Opening),
            ("PRI * HTTP".to_owned(), Phase::Opening),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0".to_owned(), Phase::Http2),
            ("PRI * HTTP/2.0\r\n\r\nSX".to_owned(), Phase::Refused),
            ("PR".to_owned(), Phase::Opening),
            ("PRO".to_owned(), Phase::Head),
            ("\r\n\r\n".to_owned(), Phase::Between),
            (format!("{chunked}5;x=y\r\nabc"), Phase::Body),
            (format!("{chunked}A\r\n0123456789\r\n0\r\nx: y\r\n"), Phase::Body),
            (format!("{chunked}A\r\n0123456789\r\n0\r\nx: y\r\n\r\n"), Phase::Between),
            (format!("{chunked}0\r\n\r\nG"), Phase::Head),
        ];
        for (bytes, phase) in table {
            assert_eq!(fed(bytes.as_bytes()).phase(), phase, "{bytes:?}");
        }
    }

    #[test]
    fn a_broken_chunk_refuses_what_follows_its_request() {
        let head = "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        for body in ["x", "1\n", "1 x", "1;x\n", "1\r\nab", "0\r\n\rx", "11111111111111111\r"] {
            let refusal = Some(Refusal { request: 1, violation: Violation::Unreadable });
            assert_eq!(fed(format!("{head}{body}").as_bytes()).refusal(), refusal, "{body:?}");
        }
    }

    fn any_traffic() -> impl Strategy<Value = Vec<u8>> {
        let head = "PUT /a HTTP/1.1\r\nHost: a\r\n";
        let piece = prop_oneof![
            4 => Just(format!("{head}Content-Length: 5\r\n\r\nab\r\n\n")),
            4 => Just(format!("{head}Transfer-Encoding: chunked\r\n\r\n2;e\r\n\r\n\r\n0\r\n\r\n")),
            2 => Just("\nGET / HTTP/1.0\n\n".to_owned()),
            2 => Just("\r\n".to_owned()),
            1 => Just("\r".to_owned()),
            1 => Just("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
            1 => Just(format!("{head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n")),
            1 => Just(format!("{head}X: {}\r\n", "x".repeat(HEAD_BYTES_MAX - 10))),
            1 => "[ -~\r\n]{0,20}",
        ];
        prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn the_cuts_make_no_difference(
            traffic in any_traffic(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let whole = fed(&traffic);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(traffic.len() + 1)).collect();
            cuts.sort_unstable();
            let mut framing = Framing::default();
            let mut from = 0;
            for cut in cuts.into_iter().chain([traffic.len()]) {
                framing.feed(&traffic[from..cut]);
                prop_assert!(framing.head.len() <= HEAD_BYTES_MAX);
                from = cut;
            }
            prop_assert_eq!(framing.phase(), whole.phase());
            prop_assert_eq!(framing.refusal(), whole.refusal());
            prop_assert_eq!(framing.heads, whole.heads);
        }
    }
}
