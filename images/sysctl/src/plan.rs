//! From entries to the writes to make: globs are expanded, each key is written once, the last assignment wins.
//!
//! As in sysctl.d(5), a key that is named in full anywhere (assigned or excluded) is left out of every glob,
//! wherever the two stand. The order of the writes is the order of the winning lines; within a glob, by name.

use std::collections::{BTreeMap, BTreeSet};

use crate::conf::{Action, Entry, Key, Origin};
use crate::glob;

/// One write to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The line that won.
    pub origin: Origin,
    /// Never a glob.
    pub key: Key,
    /// What to write, without the line end.
    pub value: String,
    /// A failure is not reported.
    pub lenient: bool,
}

/// A key has at most this many components; `/proc/sys` itself stays under ten.
const MAX_DEPTH: usize = 16;

/// Decides what to write.
///
/// `list` names what is in the directory with these components, or nothing when there is none; the order does
/// not matter.
#[must_use]
pub fn plan(entries: &[Entry], mut list: impl FnMut(&[String]) -> Vec<String>) -> Vec<Setting> {
    let named: BTreeSet<&Key> = entries.iter().map(|e| &e.key).filter(|k| !k.is_glob()).collect();
    let excluded: Vec<&Key> =
        entries.iter().filter(|e| e.action == Action::Exclude && e.key.is_glob()).map(|e| &e.key).collect();

    let mut writes = Vec::new();
    for entry in entries {
        let Action::Assign(value) = &entry.action else { continue };
        let keys = if entry.key.is_glob() {
            let mut found = expand(&entry.key, &mut list);
            found.retain(|key| !named.contains(key) && !excluded.iter().any(|x| x.matches(key)));
            found
        } else {
            vec![entry.key.clone()]
        };
        writes.extend(keys.into_iter().map(|key| Setting {
            origin: entry.origin.clone(),
            key,
            value: value.clone(),
            lenient: entry.lenient,
        }));
    }

    let last: BTreeMap<Key, usize> = writes.iter().enumerate().map(|(i, w)| (w.key.clone(), i)).collect();
    let mut index = 0;
    writes.retain(|write| {
        index += 1;
        last.get(&write.key) == Some(&(index - 1))
    });
    writes
}

/// Every existing key that the pattern matches, by name.
fn expand(pattern: &Key, list: &mut impl FnMut(&[String]) -> Vec<String>) -> Vec<Key> {
    let mut found: Vec<Vec<String>> = vec![Vec::new()];
    for part in pattern.components().iter().take(MAX_DEPTH) {
        let mut next = Vec::new();
        for path in found {
            let mut names = list(&path);
            names.retain(|name| glob::matches(part, name));
            names.sort_unstable();
            next.extend(names.into_iter().map(|name| {
                let mut longer = path.clone();
                longer.push(name);
                longer
            }));
        }
        found = next;
    }
    if pattern.components().len() > MAX_DEPTH {
        found.clear();
    }
    found.into_iter().map(Key::from_names).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::parse;

    /// `/proc/sys` with three interfaces.
    fn list(path: &[String]) -> Vec<String> {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let names: &[&str] = match path[..] {
            [] => &["net", "kernel"],
            ["net"] => &["ipv4"],
            ["net", "ipv4"] => &["conf"],
            ["net", "ipv4", "conf"] => &["lo", "all", "eth0.5"],
            ["net", "ipv4", "conf", _] => &["rp_filter", "forwarding"],
            _ => &[],
        };
        names.iter().map(|&n| n.to_owned()).collect()
    }

    fn writes(text: &str) -> Vec<String> {
        let (entries, faults) = parse("f", text);
        assert_eq!(faults, []);
        plan(&entries, list).iter().map(|s| format!("{} {}={}", s.origin.line, s.key, s.value)).collect()
    }

    #[test]
    fn a_glob_covers_what_exists_by_name() {
        assert_eq!(
            writes("net.ipv4.conf.*.rp_filter = 2"),
            [
                "1 net.ipv4.conf.all.rp_filter=2",
                "1 net.ipv4.conf.eth0/5.rp_filter=2",
                "1 net.ipv4.conf.lo.rp_filter=2"
            ]
        );
    }

    #[test]
    fn a_key_named_in_full_is_left_out_of_globs_wherever_it_stands() {
        assert_eq!(
            writes(
                "net.ipv4.conf.all.rp_filter = 0\nnet.ipv4.conf.*.rp_filter = 2\n-net.ipv4.conf.eth0/5.rp_filter"
            ),
            ["1 net.ipv4.conf.all.rp_filter=0", "2 net.ipv4.conf.lo.rp_filter=2"]
        );
    }

    #[test]
    fn an_exclusion_may_be_a_glob() {
        assert_eq!(
            writes("net.ipv4.conf.*.rp_filter = 2\n-net.ipv4.conf.[ae]*.rp_filter"),
            ["1 net.ipv4.conf.lo.rp_filter=2"]
        );
    }

    #[test]
    fn the_last_assignment_wins_and_is_the_only_write() {
        assert_eq!(writes("kernel.a = 1\nkernel.b = 1\nkernel/a = 2"), ["2 kernel.b=1", "3 kernel.a=2"]);
        assert_eq!(
            writes("net.ipv4.conf.*.rp_filter = 1\nnet.ipv4.conf.l*.rp_filter = 2").last().unwrap(),
            "2 net.ipv4.conf.lo.rp_filter=2"
        );
    }

    #[test]
    fn a_glob_that_finds_nothing_writes_nothing() {
        assert!(writes("dev.*.x = 2").is_empty());
        assert!(writes(&format!("{}* = 1", "*/".repeat(40))).is_empty());
    }

    #[test]
    fn a_key_that_does_not_exist_is_still_a_write() {
        assert_eq!(writes("kernel.nothing = 1"), ["1 kernel.nothing=1"]);
    }
}
