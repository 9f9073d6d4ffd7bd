//! Lists and objects of which only the first entries are built: a plugin may send millions of empty
//! ones, each of which takes many times the room here that it takes on the wire.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// At most `N` entries, and how many there were.
#[derive(Clone, Debug)]
pub(super) struct First<T, const N: usize> {
    pub(super) kept: Vec<T>,
    pub(super) count: usize,
}

impl<T, const N: usize> First<T, N> {
    /// The same of other entries.
    pub(super) fn map<U>(self, other: impl FnMut(T) -> U) -> First<U, N> {
        First {
            kept: self.kept.into_iter().map(other).collect(),
            count: self.count,
        }
    }

    /// How many entries were read over.
    pub(super) fn dropped(&self) -> usize {
        self.count.saturating_sub(self.kept.len())
    }
}

impl<T, const N: usize> Default for First<T, N> {
    fn default() -> Self {
        Self {
            kept: Vec::new(),
            count: 0,
        }
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for First<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Entries(PhantomData))
    }
}

struct Entries<T, const N: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Entries<T, N> {
    type Value = First<T, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<First<T, N>, A::Error> {
        let mut first = First::default();
        while first.kept.len() < N {
            match entries.next_element()? {
                Some(entry) => first.kept.push(entry),
                None => {
                    first.count = first.kept.len();
                    return Ok(first);
                }
            }
        }
        first.count = N;
        while entries.next_element::<IgnoredAny>()?.is_some() {
            first.count += 1;
        }
        Ok(first)
    }
}

/// At most `N` members of an object, in its order, and how many there were.
#[derive(Clone, Debug)]
pub(super) struct FirstMembers<T, const N: usize> {
    pub(super) kept: Vec<(String, T)>,
    pub(super) count: usize,
}

impl<T, const N: usize> Default for FirstMembers<T, N> {
    fn default() -> Self {
        Self {
            kept: Vec::new(),
            count: 0,
        }
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for FirstMembers<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members(PhantomData))
    }
}

struct Members<T, const N: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Members<T, N> {
    type Value = FirstMembers<T, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut first = FirstMembers::default();
        while first.count < N {
            let Some(member) = members.next_entry()? else {
                return Ok(first);
            };
            first.kept.push(member);
            first.count += 1;
        }
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            first.count += 1;
        }
        Ok(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_past_the_limit_are_counted_and_not_built() {
        let first: First<u8, 3> = serde_json::from_str("[1, 2, 3, {}, \"x\"]").unwrap();
        assert_eq!((first.kept.as_slice(), first.count), (&[1, 2, 3][..], 5));
        assert_eq!(first.dropped(), 2);
        let all: First<u8, 3> = serde_json::from_str("[1]").unwrap();
        assert_eq!((all.count, all.dropped()), (1, 0));
        assert!(serde_json::from_str::<First<u8, 3>>("[1, 2, {}]").is_err());
        let text = r#"{"b": 1, "a": 2, "c": [], "c": {}}"#;
        let members: FirstMembers<u8, 2> = serde_json::from_str(text).unwrap();
        assert_eq!(
            (members.kept, members.count),
            (vec![("b".into(), 1), ("a".into(), 2)], 4)
        );
    }
}
