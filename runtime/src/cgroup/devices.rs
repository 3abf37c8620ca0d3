//! Which devices a container may use: the rules, and the program that enforces them under cgroup2.
//!
//! # Meaning
//!
//! Rules come in order, and for each kind of access (read, write, mknod) the last rule that matches a
//! device decides. Before the configuration's rules everything is denied, after them come those for the
//! default devices, always allowed ([`with_defaults`]). What no rule at all matches is allowed, as it is
//! for a cgroup without rules.
//!
//! # Program
//!
//! The kernel calls it with `struct bpf_cgroup_dev_ctx { access_type, major, minor }`, where
//! `access_type` is `access << 16 | type`, and lets the access pass when it returns 1. The rules are
//! laid out from the last to the first; a register holds the kinds of access that are still open:
//!
//! ```text
//! r2 = type, r3 = access still open, r4 = major, r5 = minor;  open == 0 -> allow
//! rule:  does not match (type, major, minor) -> next rule
//!   allow:  open &= ~access;   open == 0 -> allow
//!   deny:   open & access != 0 -> deny
//! end:   allow
//! ```

use super::Error;
use crate::device;
use crate::sys::bpf::{self, Instruction};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use std::os::fd::{AsFd, BorrowedFd};

/// Making a node.
pub const MKNOD: u32 = 1;
/// Reading from a device.
pub const READ: u32 = 2;
/// Writing to a device.
pub const WRITE: u32 = 4;
const ALL: u32 = MKNOD | READ | WRITE;

/// A block device, as the kernel numbers kinds.
pub const BLOCK: u32 = 1;
/// A character device.
pub const CHARACTER: u32 = 2;

/// One rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Allow, or deny.
    pub allow: bool,
    /// [`BLOCK`] or [`CHARACTER`], or any.
    pub kind: Option<u32>,
    /// The major number, or any.
    pub major: Option<u32>,
    /// The minor number, or any.
    pub minor: Option<u32>,
    /// [`MKNOD`], [`READ`] and [`WRITE`] together.
    pub access: u32,
}

impl Rule {
    fn of(rule: &LinuxDeviceCgroup) -> Rule {
        let kind = match rule.typ() {
            Some(LinuxDeviceType::B) => Some(BLOCK),
            Some(LinuxDeviceType::C | LinuxDeviceType::U) => Some(CHARACTER),
            _ => None,
        };
        let letters = rule.access().as_deref().filter(|a| !a.is_empty()).unwrap_or("rwm");
        let access = letters.chars().fold(0, |bits, letter| {
            bits | match letter {
                'r' => READ,
                'w' => WRITE,
                'm' => MKNOD,
                _ => 0,
            }
        });
        let number = |n: Option<i64>| n.and_then(|n| u32::try_from(n).ok());
        Rule { allow: rule.allow(), kind, major: number(rule.major()), minor: number(rule.minor()), access }
    }

    /// The rule as the files of the version 1 controller take it.
    pub fn v1_text(&self) -> String {
        let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        let kind = match self.kind {
            None => return "a".to_owned(),
            Some(BLOCK) => 'b',
            Some(_) => 'c',
        };
        let access: String = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')]
            .iter()
            .filter(|(bit, _)| self.access & bit != 0)
            .map(|&(_, letter)| letter)
            .collect();
        format!("{kind} {}:{} {access}", number(self.major), number(self.minor))
    }

    /// The rule matches every device and access: no rule before it matters.
    fn decides_all(&self) -> bool {
        self.kind.is_none() && self.major.is_none() && self.minor.is_none() && self.access == ALL
    }
}

/// The configuration's rules, on the ground that nothing is allowed, followed by those that every container
/// has: making any node (using it is another matter), the default devices, and terminals.
pub fn with_defaults(rules: &[LinuxDeviceCgroup]) -> Vec<Rule> {
    let allow = |kind, major, minor, access| Rule { allow: true, kind: Some(kind), major, minor, access };
    let mut all: Vec<Rule> = rules.iter().map(Rule::of).collect();
    if !all.iter().any(Rule::decides_all) {
        all.insert(0, Rule { allow: false, kind: None, major: None, minor: None, access: ALL });
    }
    all.push(allow(CHARACTER, None, None, MKNOD));
    all.push(allow(BLOCK, None, None, MKNOD));
    for (_, major, minor) in device::DEFAULTS {
        all.push(allow(CHARACTER, Some(major), Some(minor), ALL));
    }
    // /dev/console, /dev/ptmx, and the terminals of any devpts.
    all.push(allow(CHARACTER, Some(5), Some(1), ALL));
    all.push(allow(CHARACTER, Some(5), Some(2), ALL));
    all.push(allow(CHARACTER, Some(136), None, ALL));
    all
}

const R0: u8 = 0;
const R1: u8 = 1;
const TYPE: u8 = 2;
const OPEN: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

// Operation codes: class, operation, and where the operand is (RFC 9669, section 4).
const LOAD_WORD: u8 = 0x61;
const AND_IMMEDIATE: u8 = 0x54;
const SHIFT_RIGHT_IMMEDIATE: u8 = 0x74;
const MOVE_IMMEDIATE: u8 = 0xb4;
const MOVE_REGISTER: u8 = 0xbc;
const JUMP_EQUAL: u8 = 0x16;
const JUMP_NOT_EQUAL: u8 = 0x56;
const EXIT: u8 = 0x95;

fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: u32) -> Instruction {
    Instruction { code, registers: source << 4 | destination, offset, immediate: immediate as i32 }
}

fn verdict(out: &mut Vec<Instruction>, allow: bool) {
    out.push(instruction(MOVE_IMMEDIATE, R0, 0, 0, u32::from(allow)));
    out.push(instruction(EXIT, 0, 0, 0, 0));
}

/// The program that enforces `rules`.
pub fn compile(rules: &[Rule]) -> Vec<Instruction> {
    let mut out = vec![
        instruction(LOAD_WORD, TYPE, R1, 0, 0),
        instruction(MOVE_REGISTER, OPEN, TYPE, 0, 0),
        instruction(AND_IMMEDIATE, TYPE, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT_IMMEDIATE, OPEN, 0, 0, 16),
        instruction(LOAD_WORD, MAJOR, R1, 4, 0),
        instruction(LOAD_WORD, MINOR, R1, 8, 0),
        instruction(JUMP_NOT_EQUAL, OPEN, 0, 2, 0),
    ];
    verdict(&mut out, true);
    for rule in rules.iter().rev() {
        if rule.decides_all() {
            // Nothing before it can be reached, and the verifier refuses what cannot be.
            verdict(&mut out, rule.allow);
            return out;
        }
        compile_rule(rule, &mut out);
    }
    verdict(&mut out, true);
    out
}

fn compile_rule(rule: &Rule, out: &mut Vec<Instruction>) {
    let mut body = Vec::new();
    if rule.allow {
        body.push(instruction(AND_IMMEDIATE, OPEN, 0, 0, !rule.access));
        body.push(instruction(JUMP_NOT_EQUAL, OPEN, 0, 2, 0));
        verdict(&mut body, true);
    } else {
        body.push(instruction(MOVE_REGISTER, R1, OPEN, 0, 0));
        body.push(instruction(AND_IMMEDIATE, R1, 0, 0, rule.access));
        body.push(instruction(JUMP_EQUAL, R1, 0, 2, 0));
        verdict(&mut body, false);
    }
    let tests: Vec<(u8, u32)> = [(TYPE, rule.kind), (MAJOR, rule.major), (MINOR, rule.minor)]
        .into_iter()
        .filter_map(|(register, value)| Some((register, value?)))
        .collect();
    for (done, &(register, value)) in tests.iter().enumerate() {
        let skip = (tests.len() - done - 1 + body.len()) as i16;
        out.push(instruction(JUMP_NOT_EQUAL, register, 0, skip, value));
    }
    out.extend(body);
}

/// Loads the program for `rules` and attaches it to the cgroup directory `dir`. It goes with the
/// directory.
pub fn attach(dir: BorrowedFd<'_>, rules: &[Rule]) -> Result<(), Error> {
    let program = bpf::load_device_filter(&compile(rules))
        .map_err(|source| Error::Devices { doing: "load the filter", source })?;
    bpf::attach_device_filter(dir, program.as_fd())
        .map_err(|source| Error::Devices { doing: "attach the filter", source })
}

/// Puts the program for `rules` in place of those that are attached to the cgroup directory `dir`. Several
/// programs all have to allow an access: while old and new ones are there, only what both allow passes.
pub fn replace(dir: BorrowedFd<'_>, rules: &[Rule]) -> Result<(), Error> {
    let call = |doing| move |source| Error::Devices { doing, source };
    let old = bpf::device_filters(dir).map_err(call("look for filters"))?;
    attach(dir, rules)?;
    for program in old {
        bpf::detach_device_filter(dir, program.as_fd()).map_err(call("detach the former filter"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
