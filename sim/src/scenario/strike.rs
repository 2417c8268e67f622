//! Strikes: what befalls a node when a pass has come to a point that has a name.

use std::time::Duration;

use super::{drawn::Drawn, schema::Section};

/// How far a pass of one node over another has come, as the network and the catalog show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// The peer has said hello, and where its feed ends.
    HeadNoted,
    /// The peer has told parts of a range over which sums differ.
    RangesDiffer,
    /// The peer has told names, and none of their bodies was asked for yet.
    NamesTold,
    /// Half of a large body has come.
    BodyHalf,
    /// All bodies are stored, and the cursor is about to be.
    MarkUnsaved,
    /// The pass is over, and the feed is asked for.
    FeedAsked,
}

impl Point {
    /// In the order in which a pass comes to them.
    pub const ALL: [Self; 6] = [
        Self::HeadNoted,
        Self::RangesDiffer,
        Self::NamesTold,
        Self::BodyHalf,
        Self::MarkUnsaved,
        Self::FeedAsked,
    ];

    /// Its name in scenarios.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HeadNoted => "head-noted",
            Self::RangesDiffer => "ranges-differ",
            Self::NamesTold => "names-told",
            Self::BodyHalf => "body-half",
            Self::MarkUnsaved => "mark-unsaved",
            Self::FeedAsked => "feed-asked",
        }
    }
}

/// Whom a strike hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Whose pass it is.
    Returner,
    /// The peer over which that pass has come to the first strike's point.
    Source,
    /// The other one.
    Bystander,
}

/// What a strike is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StrikeKind {
    /// The process is killed.
    Kill,
    /// Power is lost, and with it all that was not synced.
    PowerLoss,
    /// Connections to all others are reset and refused.
    Cut,
    /// It hears none of the others, and they hear it.
    Deaf,
    /// None of the others hears it, and it hears them.
    Mute,
    /// Others take all of its disk that is free.
    NoSpace,
    /// Its disk stands still.
    Stall,
    /// Its process stands still.
    Freeze,
    /// Its wall clock jumps ahead, and is set right again.
    ClockJump,
}

impl StrikeKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Kill,
        Self::PowerLoss,
        Self::Cut,
        Self::Deaf,
        Self::Mute,
        Self::NoSpace,
        Self::Stall,
        Self::Freeze,
        Self::ClockJump,
    ];

    /// Its name in scenarios.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::PowerLoss => "power-loss",
            Self::Cut => "cut",
            Self::Deaf => "deaf",
            Self::Mute => "mute",
            Self::NoSpace => "no-space",
            Self::Stall => "stall",
            Self::Freeze => "freeze",
            Self::ClockJump => "clock-jump",
        }
    }

    /// Whether a node dies of it.
    #[must_use]
    pub const fn is_death(self) -> bool {
        matches!(self, Self::Kill | Self::PowerLoss)
    }
}

/// When a strike comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The first time that a pass comes to a point.
    Point(Point),
    /// At the next point that a pass comes to behind the strike before it, or as `Half`, whichever is first.
    Next,
    /// When the strike before it has held for half of its time.
    Half,
}

impl Moment {
    /// Its name in scenarios.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Point(point) => point.name(),
            Self::Next => "next",
            Self::Half => "half",
        }
    }
}

/// One strike.
#[derive(Clone, Debug)]
pub struct StrikeSpec {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: StrikeKind,
    /// Whom it hits.
    pub role: Role,
    /// When it comes.
    pub at: Moment,
    /// For how long it holds: after a death until the restart.
    pub lasts: Duration,
    /// By how much a clock jumps.
    pub jump: Duration,
}

/// The strike of this name; `None` if it is left out.
pub(super) fn strike(drawn: &Drawn, name: &str) -> Option<StrikeSpec> {
    let table = drawn.named(Section::Strike, name);
    let kind = StrikeKind::ALL.into_iter().find(|kind| kind.name() == table.text("kind"))?;
    Some(StrikeSpec {
        name: name.to_owned(),
        kind,
        role: match table.text("role") {
            "returner" => Role::Returner,
            "bystander" => Role::Bystander,
            _ => Role::Source,
        },
        at: match Point::ALL.into_iter().find(|point| point.name() == table.text("at")) {
            Some(point) => Moment::Point(point),
            None if table.text("at") == Moment::Half.name() => Moment::Half,
            None => Moment::Next,
        },
        lasts: table.duration("lasts"),
        jump: table.duration("jump"),
    })
}
