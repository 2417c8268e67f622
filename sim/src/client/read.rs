//! Reads and what is concluded from them: every body is compared, every miss of something that was
//! acknowledged is asked about again.

use std::time::Duration;

use http::Method;
use http_body_util::BodyExt as _;
use kura_env::Instant;

use super::{
    connection::{Answer, Connection, Failure},
    upload::Upload,
};
use crate::{
    body::{BodyId, Match, Matcher},
    court::Court,
    history::{NodeIndex, Owed},
    invariants::{
        acked_or_evicted::{self, Horizon},
        deleted_stays_gone, promise_held, reads_are_quick, true_digest, used_survives, whole_body,
    },
};

/// What is asked of whom.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The node.
    pub node: NodeIndex,
    /// The path.
    pub path: &'a str,
    /// When the asking began.
    pub start: Instant,
}

/// What a read came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It was there; which body it was, if that came and was whole.
    Hit(Option<BodyId>),
    /// It was not.
    Miss,
    /// The node could not say.
    Refused(u16),
}

/// Why a miss may be wrong.
#[derive(Clone, Copy, Debug)]
struct Claims {
    /// What was acknowledged and is no older than what must be found.
    owed: Option<Owed>,
    /// Until when the node promised that it would be there.
    promised_until: Option<Instant>,
    /// It is read so often that it must not be evicted.
    stays: bool,
}

/// Reads for an actor, or for the checks after healing.
pub struct Reader<'a> {
    /// Where evidence goes.
    pub court: &'a Court,
    /// On which connection it reads.
    pub connection: &'a mut Connection,
    /// What time it is.
    pub clock: &'a dyn kura_env::Clock,
}

impl Reader<'_> {
    /// A GET, judged.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the node does not answer, or breaks the body off so that the client notices.
    pub async fn get(&mut self, ask: Ask<'_>) -> Result<Seen, Failure> {
        self.get_of(ask, false).await
    }

    /// A GET of what is read so often that it must stay, judged.
    ///
    /// # Errors
    ///
    /// As [`Reader::get`].
    pub async fn get_staying(&mut self, ask: Ask<'_>) -> Result<Seen, Failure> {
        self.get_of(ask, true).await
    }

    async fn get_of(&mut self, ask: Ask<'_>, stays: bool) -> Result<Seen, Failure> {
        let claims = self.claims(ask, stays);
        let seen = self.get_once(ask, claims.owed).await?;
        if seen == Seen::Miss {
            self.confirm_miss(ask, claims).await?;
        }
        Ok(seen)
    }

    /// A HEAD, judged. What it finds under a content address is promised from now on.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the node does not answer.
    pub async fn head(&mut self, ask: Ask<'_>) -> Result<Seen, Failure> {
        let claims = self.claims(ask, false);
        let answer = self.connection.request(Method::HEAD, ask.path, Upload::empty()).await?;
        let seen = self.judge_head(ask, &answer);
        if seen == Seen::Miss {
            self.confirm_miss(ask, claims).await?;
        }
        Ok(seen)
    }

    fn claims(&self, ask: Ask<'_>, stays: bool) -> Claims {
        let evidence = self.court.evidence();
        Claims {
            owed: evidence.history.owed(ask.node, ask.path, ask.start),
            promised_until: evidence.history.promised_until(ask.node, ask.path),
            stays,
        }
    }

    fn judge_head(&self, ask: Ask<'_>, answer: &Answer) -> Seen {
        let mut evidence = self.court.evidence();
        evidence.history.saw_status(answer.status);
        match (answer.status, answer.len_bytes) {
            (200, Some(len_bytes)) => {
                let puts = evidence.history.puts(ask.node, ask.path);
                let verdict = true_digest::check_length(ask.path, &puts, len_bytes);
                evidence.judge(self.clock.now(), verdict);
                evidence.history.vouched(ask.node, ask.path, ask.start);
                Seen::Hit(None)
            }
            (404, _) => Seen::Miss,
            (status, _) => Seen::Refused(status),
        }
    }

    fn judge_time(&self, path: &str, took: Duration) {
        let mut evidence = self.court.evidence();
        if let Some(limit) = evidence.history.read_limit() {
            evidence.judge(self.clock.now(), reads_are_quick::check(path, took, limit));
        }
    }

    async fn get_once(&mut self, ask: Ask<'_>, owed: Option<Owed>) -> Result<Seen, Failure> {
        let asked = self.clock.now();
        self.court.evidence().history.count_read();
        let answer = self.connection.request(Method::GET, ask.path, Upload::empty()).await;
        self.judge_time(ask.path, self.clock.now().since(asked));
        let answer = answer?;
        self.court.evidence().history.saw_status(answer.status);
        match answer.status {
            200 => self.body(ask, owed, answer).await.map(Seen::Hit),
            status => {
                drain(answer).await?;
                Ok(if status == 404 { Seen::Miss } else { Seen::Refused(status) })
            }
        }
    }

    async fn body(
        &mut self,
        ask: Ask<'_>,
        owed: Option<Owed>,
        mut answer: Answer,
    ) -> Result<Option<BodyId>, Failure> {
        let puts = self.court.evidence().history.puts(ask.node, ask.path);
        let mut matcher = Matcher::new(puts.iter().map(|put| put.body).collect());
        while let Some(frame) = answer.body.frame().await {
            let frame = frame.map_err(|error| Failure::Broken(error.to_string()))?;
            if let Some(data) = frame.data_ref() {
                matcher.update(data);
            }
        }
        let (body, path) = (matcher.finish(), ask.path);
        let received = matcher.received_bytes();
        let now = self.clock.now();
        let is_current = acked_or_evicted::check_hit(path, owed, &puts, body);
        let is_current = match (is_current, owed) {
            (Err(violation), Some(owed)) => {
                let horizon = self.horizon(ask).await?;
                let lost_power = self.court.evidence().lost_power.contains(&ask.node);
                let is_excused =
                    |horizon| lost_power && acked_or_evicted::excuses(path, owed, &horizon);
                if horizon.is_some_and(is_excused) { Ok(()) } else { Err(violation) }
            }
            (judged, _) => judged,
        };
        let mut evidence = self.court.evidence();
        let buried = evidence.history.buried(ask.node, path, ask.start);
        evidence.judge(now, deleted_stays_gone::check_hit(path, &buried, &puts, body));
        let whole = whole_body::check_delivery(path, answer.len_bytes, received, body);
        evidence.judge(now, whole);
        evidence.judge(now, true_digest::check_delivery(path, &puts, body));
        evidence.judge(now, is_current);
        let Match::Whole(id) = body else { return Ok(None) };
        evidence.history.count_hit(received);
        Ok(Some(id))
    }

    /// A miss of what somebody has a claim to: legal while the node reads its disk back. So the node
    /// must say, on this very connection, that it serves; then miss again; and then say so once more,
    /// and how far it has evicted.
    async fn confirm_miss(&mut self, ask: Ask<'_>, claims: Claims) -> Result<(), Failure> {
        let Claims { owed, promised_until, stays } = claims;
        let is_promised = promised_until.is_some_and(|until| until > self.clock.now());
        if owed.is_none() && !is_promised || self.horizon(ask).await?.is_none() {
            return Ok(());
        }
        if self.get_once(ask, owed).await? != Seen::Miss {
            return Ok(());
        }
        let missed = self.clock.now();
        let Some(horizon) = self.horizon(ask).await? else { return Ok(()) };
        let mut evidence = self.court.evidence();
        // A delete may have come in between.
        let stands = |owed: &Owed| evidence.history.stands(ask.node, ask.path, owed);
        let is_deleted = owed.is_some_and(|owed| !stands(&owed));
        let owed = owed.filter(|_| !is_deleted);
        let promised_until = promised_until
            .filter(|_| evidence.history.promised_until(ask.node, ask.path).is_some());
        if let Some(owed) = owed {
            evidence.judge(missed, acked_or_evicted::check_miss(ask.path, owed, &horizon));
        }
        if let Some(until) = promised_until {
            evidence.judge(missed, promise_held::check_miss(ask.path, until, missed));
        }
        if stays && !is_deleted {
            evidence.judge(missed, used_survives::check_miss(ask.path, owed));
        }
        Ok(())
    }

    /// What the node says that it has evicted, if it serves. Which large objects are gone follows from no
    /// horizon, because they go by their last use: that is seen at its disk.
    async fn horizon(&mut self, ask: Ask<'_>) -> Result<Option<Horizon>, Failure> {
        let (status, text) = self.connection.text("/status").await?;
        if status != 200 {
            return Ok(None);
        }
        let Ok(json) = serde_json::from_str::<serde_json::Value>(&text) else { return Ok(None) };
        if json["state"] != "serving" {
            return Ok(None);
        }
        let ring = &json["ring"];
        let sequence = |ring: &serde_json::Value| ring["horizon_sequence"].as_u64();
        let sequences = sequence(ring).zip(sequence(&ring["entries"]));
        let key = (ask.node, ask.path.to_owned());
        let object = self.court.evidence().evicted_objects.get(&key).copied();
        Ok(sequences.map(|(blobs, entries)| Horizon { blobs, entries, object }))
    }
}

/// Reads an answer to its end, so that its connection can be used again.
pub(super) async fn drain(mut answer: Answer) -> Result<(), Failure> {
    while let Some(frame) = answer.body.frame().await {
        frame.map_err(|error| Failure::Broken(error.to_string()))?;
    }
    Ok(())
}
