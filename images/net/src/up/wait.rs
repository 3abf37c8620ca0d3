//! When the form at boot is at its end: a pure function of how the interfaces stand and the time.

use std::fmt;
use std::time::Duration;

use crate::clock::Time;

/// A machine without a single interface to configure is not kept waiting for one that is still to be found longer
/// than this; an interface that is named as required is waited for in full.
const GRACE: Duration = Duration::from_secs(5);

/// How an interface stands that should get an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its name.
    pub name: String,
    /// Its rule says that the node is not up without it.
    pub required: bool,
    /// It has its address.
    pub addressed: bool,
    /// If not: what it is waiting for.
    pub why: String,
}

/// What to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Go on booting.
    Ready,
    /// Wait for more, at most until then.
    Wait {
        /// When it is too late.
        until: Time,
    },
    /// It is too late.
    Failed(NotReady),
}

/// Who has no address, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotReady {
    /// The time waited.
    pub after: Duration,
    /// Whether particular interfaces were required.
    pub required: bool,
    /// Those that were waited for.
    pub missing: Vec<Standing>,
    /// Required rules that no interface matches.
    pub unmatched: usize,
}

impl std::error::Error for NotReady {}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let which = if self.required { "not every required interface" } else { "no interface" };
        write!(f, "{which} has an address after {} s: ", self.after.as_secs())?;
        for (i, standing) in self.missing.iter().enumerate() {
            let comma = if i > 0 { "; " } else { "" };
            write!(f, "{comma}{}: {}", standing.name, standing.why)?;
        }
        match (self.missing.is_empty(), self.unmatched) {
            (true, 0) => write!(f, "none matches the configuration"),
            (_, 0) => Ok(()),
            (empty, n) => write!(f, "{}{n} required not found", if empty { "" } else { "; " }),
        }
    }
}

/// Whether the network is there: the first address is enough, unless some interfaces are required; then it takes all
/// of those. `wanted`: some rule gives addresses at all; `unmatched`: required rules that no interface matches.
#[must_use]
pub fn verdict(
    wanted: bool,
    standings: &[Standing],
    unmatched: usize,
    started: Time,
    timeout: Duration,
    now: Time,
) -> Verdict {
    let required = unmatched > 0 || standings.iter().any(|s| s.required);
    let awaited = || standings.iter().filter(|s| s.required || !required);
    let ready = if required {
        unmatched == 0 && awaited().all(|s| s.addressed)
    } else {
        !wanted || awaited().any(|s| s.addressed)
    };
    if ready {
        return Verdict::Ready;
    }
    let patience = if standings.is_empty() && !required { timeout.min(GRACE) } else { timeout };
    let until = started + patience;
    if now < until {
        return Verdict::Wait { until };
    }
    let missing = awaited().filter(|s| !s.addressed).cloned().collect();
    Verdict::Failed(NotReady { after: patience, required, missing, unmatched })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    fn standing(name: &str, required: bool, addressed: bool) -> Standing {
        Standing { name: name.into(), required, addressed, why: "no carrier".into() }
    }

    fn after(secs: u64, standings: &[Standing], unmatched: usize) -> Verdict {
        let started = Time::from_millis(1000);
        verdict(true, standings, unmatched, started, TIMEOUT, started + Duration::from_secs(secs))
    }

    fn complaint(verdict: Verdict) -> String {
        match verdict {
            Verdict::Failed(why) => why.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_address_is_enough() {
        let two = [standing("eth0", false, false), standing("eth1", false, true)];
        assert_eq!(after(0, &two, 0), Verdict::Ready);
        assert!(matches!(after(0, &two[..1], 0), Verdict::Wait { .. }));
    }

    #[test]
    fn every_required_interface_counts_and_then_no_other() {
        let some =
            [standing("eth0", false, true), standing("eth1", true, false), standing("eth2", true, true)];
        assert!(matches!(after(29, &some, 0), Verdict::Wait { .. }));
        assert_eq!(
            complaint(after(30, &some, 0)),
            "not every required interface has an address after 30 s: eth1: no carrier"
        );
        assert_eq!(after(0, &some[2..], 0), Verdict::Ready);
        assert!(matches!(after(0, &some[2..], 1), Verdict::Wait { .. }));
        assert_eq!(
            complaint(after(30, &some[1..], 1)),
            "not every required interface has an address after 30 s: eth1: no carrier; 1 required not found"
        );
    }

    #[test]
    fn without_any_interface_the_wait_is_short() {
        assert!(matches!(after(4, &[], 0), Verdict::Wait { .. }));
        assert_eq!(
            complaint(after(5, &[], 0)),
            "no interface has an address after 5 s: none matches the configuration"
        );
        assert!(matches!(after(5, &[], 1), Verdict::Wait { .. }));
    }

    #[test]
    fn nothing_wanted_is_nothing_to_wait_for() {
        let now = Time::from_millis(0);
        assert_eq!(verdict(false, &[], 0, now, TIMEOUT, now), Verdict::Ready);
    }

    #[test]
    fn a_failure_says_what_each_interface_waits_for() {
        let two = [standing("eth0", false, false), standing("eth1", false, false)];
        assert_eq!(
            complaint(after(30, &two, 0)),
            "no interface has an address after 30 s: eth0: no carrier; eth1: no carrier"
        );
    }
}
