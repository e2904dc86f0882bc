//! Generated objects: a number gives a key, in the order of the keys' bytes, and a key gives its number back.
//!
//! The shape is that of a grown application: half of all lies flat in one folder, a third below two levels of hashed
//! folders, the rest in dated folders, in very many tiny ones, and at the top. `assets-old/` comes before `assets/`,
//! which tells byte order from a walk of folders.

/// A part of all objects below one prefix.
#[derive(Debug, Clone, Copy)]
struct Share {
    prefix: &'static str,
    shape: Shape,
    start: u64,
    count: u64,
}

#[derive(Debug, Clone, Copy)]
enum Shape {
    /// `0000001234.bin`.
    Flat,
    /// `2019/03/17/000123.bin`.
    Dated,
    /// `a7/3f/0001234-9b….bin`.
    Hashed,
    /// `00000411/2.bin`.
    Tiny,
}

/// What lies where, in thousandths of all; what is left over lies at the top.
const SHARES: [(&str, Shape, u64); 6] = [
    ("archive/", Shape::Dated, 100),
    ("assets-old/", Shape::Flat, 10),
    ("assets/", Shape::Flat, 20),
    ("media/", Shape::Hashed, 305),
    ("photos/", Shape::Flat, 500),
    ("tiny/", Shape::Tiny, 64),
];
/// Objects of one day.
const OF_A_DAY: u64 = 500;
/// Objects of a tiny folder.
const OF_A_FOLDER: u64 = 3;
/// Two levels of two hexadecimal digits.
const HASHES: u64 = 65_536;
/// When the oldest object was written: the first of January 2024.
const BEGINNING: i64 = 1_704_067_200;
/// When changed ones were written again: the first of June 2026.
const CHANGED: i64 = 1_780_272_000;

/// All generated objects.
#[derive(Debug, Clone)]
pub struct Keys {
    shares: Vec<Share>,
    count: u64,
}

/// What is said of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Bytes.
    pub size: u64,
    /// Without quotes.
    pub etag: String,
    /// Seconds since 1970.
    pub modified: i64,
}

impl Keys {
    /// So many objects.
    pub fn new(count: u64) -> Self {
        let mut shares = Vec::new();
        let mut start = 0;
        for (prefix, shape, share) in SHARES {
            let of_it = count * share / 1_000;
            shares.push(Share { prefix, shape, start, count: of_it });
            start += of_it;
        }
        shares.push(Share { prefix: "zz-", shape: Shape::Flat, start, count: count - start });
        Self { shares, count }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The key of a number below [`Keys::count`].
    pub fn key(&self, number: u64) -> String {
        let at = self.shares.partition_point(|share| share.start <= number) - 1;
        let Share { prefix, shape, start, count } = self.shares[at];
        let within = number - start;
        match shape {
            Shape::Flat => format!("{prefix}{within:010}.bin"),
            Shape::Dated => {
                let (day, of_day) = (within / OF_A_DAY, within % OF_A_DAY);
                let (year, month, day) = (1990 + day / 372, day / 31 % 12 + 1, day % 31 + 1);
                format!("{prefix}{year}/{month:02}/{day:02}/{of_day:06}.bin")
            }
            Shape::Hashed => {
                let hash = within * HASHES / count;
                let (one, two) = (hash >> 8, hash & 255);
                format!("{prefix}{one:02x}/{two:02x}/{within:09}-{:016x}.bin", scrambled(within))
            }
            Shape::Tiny => format!("{prefix}{:08}/{}.bin", within / OF_A_FOLDER, within % OF_A_FOLDER),
        }
    }

    /// The number of a key, if it is one of these.
    pub fn number(&self, key: &str) -> Option<u64> {
        let number = self.first_from(key);
        (number < self.count && self.key(number) == key).then_some(number)
    }

    /// The first number whose key does not come before `bound`; [`Keys::count`] if there is none.
    pub fn first_from(&self, bound: &str) -> u64 {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.key(middle).as_str() < bound {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// What is said of an object, before or after it changed.
    pub fn said(&self, number: u64, changed: bool) -> Said {
        let seed = number * 2 + u64::from(changed);
        let size = 1_000 + scrambled(number) % 200_000;
        let since = i64::try_from(scrambled(number + 17) % 60_000_000).expect("two years of seconds");
        Said {
            size,
            etag: format!("{:016x}{:016x}", scrambled(seed), scrambled(!seed)),
            modified: if changed { CHANGED } else { BEGINNING + since },
        }
    }

    /// True for the one in a hundred that a change reaches.
    pub fn may_change(number: u64) -> bool {
        scrambled(number + 5).is_multiple_of(100)
    }
}

/// `SplitMix64`: spread, not secrecy.
fn scrambled(number: u64) -> u64 {
    let mut dice = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    dice = (dice ^ (dice >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    dice = (dice ^ (dice >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    dice ^ (dice >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_numbers_are_one_to_one_and_in_byte_order() {
        let keys = Keys::new(20_011);
        let all: Vec<String> = (0..keys.count()).map(|number| keys.key(number)).collect();
        assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
        for (number, key) in (0..).zip(&all) {
            assert_eq!(keys.number(key), Some(number));
        }
        assert_eq!(keys.number("assets/"), None);
        assert_eq!(keys.number("zzz"), None);
    }
}
