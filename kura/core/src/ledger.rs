//! The ledger: every byte of the data volume that is ours, in one place, held against what the
//! volume really has left.
//!
//! The full check, twice the larger of a segment and what comes in, is made when a segment is opened
//! or an object enters the pool. The space is reserved then, and appends draw it down, so that an
//! admitted write never meets a full disk of our own making. Amounts are allocated blocks, not
//! lengths.

use std::fmt;

/// What holds bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Account {
    /// Segments of the ring of bodies.
    Blobs,
    /// Segments of the ring of entries.
    Entries,
    /// Objects of the pool.
    Pool,
    /// The catalog's files.
    Catalog,
    /// What was damaged and is kept for people to look at.
    Quarantine,
    /// Bodies in flight.
    Staging,
    /// Ballast that is given up to get out of a full disk.
    Reserve,
    /// Files without a name that somebody still has open.
    Unlinked,
    /// The few small files beside: LOCK, IDENTITY, RING, STAMP.
    State,
}

impl Account {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Blobs,
        Self::Entries,
        Self::Pool,
        Self::Catalog,
        Self::Quarantine,
        Self::Staging,
        Self::Reserve,
        Self::Unlinked,
        Self::State,
    ];

    /// Its name in metrics and pages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Blobs => "blobs",
            Self::Entries => "entries",
            Self::Pool => "pool",
            Self::Catalog => "catalog",
            Self::Quarantine => "quarantine",
            Self::Staging => "staging",
            Self::Reserve => "reserve",
            Self::Unlinked => "unlinked",
            Self::State => "state",
        }
    }

    /// The account of a file of the data directory, by its path.
    #[must_use]
    pub fn of_path(path: &str) -> Self {
        match path.split_once('/').map_or(path, |(dir, _)| dir) {
            "blobs" => Self::Blobs,
            "entries" => Self::Entries,
            "pool" => Self::Pool,
            "catalog" => Self::Catalog,
            "quarantine" => Self::Quarantine,
            "tmp" => Self::Staging,
            "reserve" => Self::Reserve,
            _ => Self::State,
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// The balance of each account, in allocated bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Ledger {
    balances: [u64; Account::ALL.len()],
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(account, bytes)| (account.name(), bytes))).finish()
    }
}

impl Ledger {
    /// What `account` holds.
    #[must_use]
    pub fn get(&self, account: Account) -> u64 {
        self.balances[account.index()]
    }

    /// `account` holds `bytes` from now on.
    pub fn set(&mut self, account: Account, bytes: u64) {
        self.balances[account.index()] = bytes;
    }

    /// `account` holds `bytes` more.
    pub fn add(&mut self, account: Account, bytes: u64) {
        self.balances[account.index()] += bytes;
    }

    /// `account` holds `bytes` less.
    ///
    /// # Panics
    ///
    /// If it does not hold that many: somebody was counted twice.
    pub fn sub(&mut self, account: Account, bytes: u64) {
        let balance = &mut self.balances[account.index()];
        let rest = balance.checked_sub(bytes);
        assert!(rest.is_some(), "{} holds {balance} bytes, less than {bytes}", account.name());
        *balance = rest.unwrap_or(0);
    }

    /// All balances.
    pub fn iter(&self) -> impl Iterator<Item = (Account, u64)> + '_ {
        Account::ALL.into_iter().map(|account| (account, self.get(account)))
    }

    /// All of them together.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.balances.iter().sum()
    }
}

/// What the volume has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// What may still be allocated, as the file system says.
    pub available_bytes: u64,
    /// What was granted and is not allocated yet: staging that is still to be filled.
    pub granted_bytes: u64,
    /// What always stays free.
    pub floor_bytes: u64,
}

/// The answer to somebody who wants room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// There is room.
    Granted,
    /// There is not.
    Short {
        /// By so many bytes.
        missing_bytes: u64,
    },
}

impl Room {
    /// Whether `wanted_bytes` can be had above the floor.
    #[must_use]
    pub fn admit(self, wanted_bytes: u64) -> Admission {
        let taken_bytes =
            wanted_bytes.saturating_add(self.granted_bytes).saturating_add(self.floor_bytes);
        match taken_bytes.checked_sub(self.available_bytes) {
            Some(missing_bytes) if missing_bytes > 0 => Admission::Short { missing_bytes },
            Some(_) | None => Admission::Granted,
        }
    }
}

/// The bytes that must be free to open a segment of `segment_bytes`, or to take in an object of
/// `incoming_bytes`.
#[must_use]
pub fn full_check_bytes(segment_bytes: u64, incoming_bytes: u64) -> u64 {
    segment_bytes.max(incoming_bytes).saturating_mul(2)
}

/// Below so many available bytes writes stop: the catalog needs room to delete, and a volume that is
/// used to the last byte hurts whoever else is on it. A fiftieth of the disk, at most
/// [`FLOOR_BYTES_MAX`].
#[must_use]
pub fn floor_bytes(disk_bytes: u64) -> u64 {
    (disk_bytes / 50).min(FLOOR_BYTES_MAX)
}

/// The highest floor.
pub const FLOOR_BYTES_MAX: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_what_is_left_above_floor_and_grants() {
        let room = Room { available_bytes: 100, granted_bytes: 10, floor_bytes: 20 };
        assert_eq!(room.admit(70), Admission::Granted);
        assert_eq!(room.admit(71), Admission::Short { missing_bytes: 1 });
        assert!(matches!(room.admit(u64::MAX), Admission::Short { .. }));
        let below = Room { available_bytes: 5, ..room };
        assert_eq!(below.admit(0), Admission::Short { missing_bytes: 25 });
    }

    #[test]
    fn a_body_of_two_gibibytes_does_not_pass_a_check_for_one_segment() {
        const GIB: u64 = 1 << 30;
        let room = Room { available_bytes: 2 * GIB, granted_bytes: 0, floor_bytes: 0 };
        assert_eq!(full_check_bytes(GIB / 2, 2 * GIB), 4 * GIB);
        assert_eq!(room.admit(full_check_bytes(GIB / 2, 1)), Admission::Granted);
        let short = Admission::Short { missing_bytes: 2 * GIB };
        assert_eq!(room.admit(full_check_bytes(GIB / 2, 2 * GIB)), short);
    }

    #[test]
    fn every_file_belongs_to_one_account_and_the_sum_is_the_sum() {
        for (path, account) in [
            ("blobs/0000000000000001.seg", Account::Blobs),
            ("entries/0000000000000001.seg", Account::Entries),
            ("pool/0a/000000000000000a.blob", Account::Pool),
            ("catalog/journals/0", Account::Catalog),
            ("quarantine/catalog/0.jnl", Account::Quarantine),
            ("STAMP", Account::State),
            ("tmp/1.part", Account::Staging),
            ("reserve", Account::Reserve),
            ("RING.new", Account::State),
            ("LOCK", Account::State),
        ] {
            assert_eq!(Account::of_path(path), account, "{path}");
        }
        let mut ledger = Ledger::default();
        for (position, account) in (1..).zip(Account::ALL) {
            ledger.add(account, position);
        }
        ledger.sub(Account::Pool, 2);
        assert_eq!((ledger.get(Account::Pool), ledger.total_bytes()), (1, 43));
    }

    #[test]
    #[should_panic(expected = "pool holds 0 bytes, less than 1")]
    fn what_is_not_held_cannot_be_given_back() {
        Ledger::default().sub(Account::Pool, 1);
    }

    #[test]
    fn the_floor_follows_the_disk_up_to_a_limit() {
        assert_eq!(floor_bytes(256 << 20), (256 << 20) / 50);
        assert_eq!(floor_bytes(u64::MAX), FLOOR_BYTES_MAX);
        assert_eq!(floor_bytes(0), 0);
    }
}
