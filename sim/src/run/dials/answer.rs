//! Where an answer of HTTP/1 ends, told from its bytes alone.

/// A head that is longer than this is none of a peer's.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// An answer that is being received.
#[derive(Debug, Default)]
pub(super) struct Answer {
    status: u16,
    part: Part,
}

/// What the next byte belongs to.
#[derive(Debug)]
enum Part {
    /// The head, and what of it has come.
    Head(Vec<u8>),
    /// A body of known length, and how much of it is to come.
    Body(u64),
    /// The line before a chunk, and the digits that have come.
    Size {
        digits: u64,
        is_begun: bool,
    },
    /// A chunk and the line break behind it, and how much of them is to come.
    Chunk(u64),
    /// A line behind the last chunk, and how long it is so far.
    Trailer(u64),
    End,
    /// Nothing that is understood here: its end is never seen.
    Unknown,
}

impl Default for Part {
    fn default() -> Self {
        Self::Head(Vec::new())
    }
}

impl Answer {
    /// Takes the next bytes in, and gives on what of them is content.
    pub(super) fn take(&mut self, mut bytes: &[u8], mut content: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            let ahead = usize::try_from(self.content_ahead()).unwrap_or(usize::MAX);
            content(&bytes[..ahead.min(bytes.len())]);
            let taken = self.step(bytes);
            bytes = &bytes[taken..];
        }
    }

    /// How many of the next bytes are content.
    fn content_ahead(&self) -> u64 {
        match &self.part {
            Part::Body(left) => *left,
            // The line break behind it is none.
            Part::Chunk(left) => left.saturating_sub(2),
            Part::Head(_) | Part::Size { .. } | Part::Trailer(_) | Part::End | Part::Unknown => 0,
        }
    }

    /// The status, once the answer has come to its end.
    pub(super) fn ended(&self) -> Option<u16> {
        matches!(self.part, Part::End).then_some(self.status)
    }

    /// Whether it stands between two chunks, where what is still to come may be its end alone.
    pub(super) fn is_between_chunks(&self) -> bool {
        matches!(self.part, Part::Size { is_begun: false, .. })
    }

    /// Takes some of `bytes`, which are not empty, and says how many.
    fn step(&mut self, bytes: &[u8]) -> usize {
        let len = bytes.len() as u64;
        let whole = bytes.len();
        match &mut self.part {
            Part::Head(head) => {
                head.push(bytes[0]);
                if head.ends_with(b"\r\n\r\n") {
                    let head = std::mem::take(head);
                    (self.status, self.part) = read_head(&head);
                } else if head.len() > HEAD_BYTES_MAX {
                    self.part = Part::Unknown;
                }
                1
            }
            Part::Body(left) if *left > len => {
                *left -= len;
                whole
            }
            Part::Body(left) => {
                let taken = usize::try_from(*left).unwrap_or(whole);
                self.part = Part::End;
                taken
            }
            Part::Size { digits, is_begun } => {
                *is_begun = true;
                match (char::from(bytes[0]).to_digit(16), bytes[0]) {
                    (Some(digit), _) => *digits = *digits << 4 | u64::from(digit),
                    (None, b'\n') if *digits == 0 => self.part = Part::Trailer(0),
                    (None, b'\n') => self.part = Part::Chunk(*digits + 2),
                    (None, b'\r') => {}
                    (None, _) => self.part = Part::Unknown,
                }
                1
            }
            Part::Chunk(left) if *left > len => {
                *left -= len;
                whole
            }
            Part::Chunk(left) => {
                let taken = usize::try_from(*left).unwrap_or(whole);
                self.part = Part::Size { digits: 0, is_begun: false };
                taken
            }
            Part::Trailer(line) => {
                match (bytes[0], *line) {
                    (b'\n', 0) => self.part = Part::End,
                    (b'\n', _) => *line = 0,
                    (b'\r', _) => {}
                    (_, _) => *line += 1,
                }
                1
            }
            Part::End | Part::Unknown => whole,
        }
    }
}

/// The status of a head, and what comes behind it.
fn read_head(head: &[u8]) -> (u16, Part) {
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let Some(status) = status else { return (0, Part::Unknown) };
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        match (name, value.trim()) {
            ("content-length", "0") => return (status, Part::End),
            ("content-length", value) => {
                return (status, value.parse().map_or(Part::Unknown, Part::Body));
            }
            ("transfer-encoding", "chunked") => {
                return (status, Part::Size { digits: 0, is_begun: false });
            }
            (_, _) => {}
        }
    }
    (status, Part::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `text` in parts of `step` bytes.
    fn answer(text: &str, step: usize) -> Answer {
        let mut answer = Answer::default();
        text.as_bytes().chunks(step).for_each(|part| answer.take(part, |_| ()));
        answer
    }

    #[test]
    fn an_answer_ends_where_its_head_or_its_last_chunk_says() {
        let known = "HTTP/1.1 503 No\r\nContent-Length: 5\r\n\r\nhello";
        let empty = "HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n";
        let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                      5\r\nhello\r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n";
        for (text, status) in [(known, 503), (empty, 410), (chunks, 200)] {
            for step in [1, 2, 7, 1000] {
                assert_eq!(answer(text, step).ended(), Some(status), "{step} {text:?}");
                let cut = &text[..text.len() - 1];
                assert_eq!(answer(cut, step).ended(), None, "{step} {cut:?}");
            }
        }
    }

    #[test]
    fn content_is_what_stands_between_the_frames() {
        let known = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                      3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
        for text in [known, chunks] {
            for step in [1, 2, 7, 1000] {
                let (mut answer, mut content) = (Answer::default(), Vec::new());
                for part in text.as_bytes().chunks(step) {
                    answer.take(part, |bytes| content.extend_from_slice(bytes));
                }
                assert_eq!(content, b"hello", "{step} {text:?}");
            }
        }
    }

    #[test]
    fn the_place_between_two_chunks_is_known() {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let is_between = |body: &str| answer(&format!("{head}{body}"), 3).is_between_chunks();
        assert!(is_between("") && is_between("2\r\nab\r\n"));
        assert!(!is_between("2\r\na") && !is_between("2"));
    }
}
