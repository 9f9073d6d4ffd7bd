//! What was worked out of texts that come again, the most recent ones, within a bound.

use std::collections::HashMap;

/// How many texts are kept, and how many bytes of them together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    pub(crate) count: usize,
    pub(crate) bytes: usize,
    /// Longest text that is kept.
    pub(crate) longest: usize,
}

/// Values by the texts that they follow from.
#[derive(Debug)]
pub(crate) struct Recent<T> {
    bound: Bound,
    by_text: HashMap<Box<str>, Entry<T>>,
    bytes: usize,
    /// Counts look-ups: what was not looked up longest goes first.
    now: u64,
}

#[derive(Debug)]
struct Entry<T> {
    value: T,
    used: u64,
}

impl<T> Recent<T> {
    pub(crate) fn new(bound: Bound) -> Self {
        Self {
            bound,
            by_text: HashMap::new(),
            bytes: 0,
            now: 0,
        }
    }

    pub(crate) fn find(&mut self, text: &str) -> Option<&T> {
        self.now += 1;
        let entry = self.by_text.get_mut(text)?;
        entry.used = self.now;
        Some(&entry.value)
    }

    /// Keeps `value`, where `text` is not too long for that.
    pub(crate) fn keep(&mut self, text: &str, value: T) {
        if text.len() > self.bound.longest {
            return;
        }
        self.forget(text);
        while self.by_text.len() >= self.bound.count || self.bytes + text.len() > self.bound.bytes {
            let oldest = self.by_text.iter().min_by_key(|(_, entry)| entry.used);
            let Some(oldest) = oldest.map(|(text, _)| text.clone()) else {
                return;
            };
            self.forget(&oldest);
        }
        let used = self.now;
        self.by_text.insert(text.into(), Entry { value, used });
        self.bytes += text.len();
    }

    pub(crate) fn forget(&mut self, text: &str) {
        if self.by_text.remove(text).is_some() {
            self.bytes -= text.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_and_the_least_recent_goes() {
        let mut recent = Recent::new(Bound {
            count: 8,
            bytes: 100,
            longest: 50,
        });
        recent.keep("often", 0);
        for n in 0..1_000 {
            recent.keep(&format!("{n}"), n);
            assert_eq!(recent.find("often"), Some(&0));
        }
        assert_eq!((recent.by_text.len(), recent.find("998")), (8, Some(&998)));
        recent.keep(&"x".repeat(51), 1);
        assert_eq!(recent.find(&"x".repeat(51)), None);
        for n in 0..100 {
            recent.keep(&format!("{n:040}"), n);
        }
        assert_eq!((recent.by_text.len(), recent.bytes), (2, 80));
        recent.keep(&format!("{:040}", 99), 7);
        assert_eq!((recent.by_text.len(), recent.bytes), (2, 80));
        assert_eq!(recent.find(&format!("{:040}", 99)), Some(&7));
        recent.forget(&format!("{:040}", 99));
        assert_eq!((recent.by_text.len(), recent.bytes), (1, 40));
    }
}
