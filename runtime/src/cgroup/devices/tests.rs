use super::*;
use proptest::prelude::*;

/// What the rules mean, said directly: for each kind of access, the last matching rule decides.
fn allowed(rules: &[Rule], kind: u32, major: u32, minor: u32, access: u32) -> bool {
    [MKNOD, READ, WRITE].into_iter().filter(|bit| access & bit != 0).all(|bit| {
        let matches = |rule: &&Rule| {
            rule.access & bit != 0
                && rule.kind.is_none_or(|k| k == kind)
                && rule.major.is_none_or(|m| m == major)
                && rule.minor.is_none_or(|m| m == minor)
        };
        rules.iter().rev().find(matches).is_none_or(|rule| rule.allow)
    })
}

/// Runs a program as the kernel would; panics on anything that its verifier refuses.
fn run(program: &[Instruction], context: [u32; 3]) -> bool {
    let mut registers: [Option<u64>; 11] = [None; 11];
    let mut at = 0;
    for _ in 0..100_000 {
        let i = program[at];
        let (to, from) = ((i.registers & 15) as usize, (i.registers >> 4) as usize);
        let immediate = i.immediate as u32;
        at += 1;
        let value = |r: usize, registers: &[Option<u64>; 11]| registers[r].expect("register is set") as u32;
        match i.code {
            LOAD_WORD => {
                assert_eq!(from, 1);
                assert!(registers[1].is_none(), "the context pointer was overwritten");
                registers[to] = Some(context[i.offset as usize / 4].into());
            }
            AND_IMMEDIATE => registers[to] = Some((value(to, &registers) & immediate).into()),
            SHIFT_RIGHT_IMMEDIATE => registers[to] = Some((value(to, &registers) >> immediate).into()),
            MOVE_IMMEDIATE => registers[to] = Some(immediate.into()),
            MOVE_REGISTER => registers[to] = Some(value(from, &registers).into()),
            JUMP_EQUAL | JUMP_NOT_EQUAL => {
                assert!(i.offset >= 0, "jumps go forward");
                if (value(to, &registers) == immediate) == (i.code == JUMP_EQUAL) {
                    at += i.offset as usize;
                }
            }
            EXIT => return registers[0].expect("a verdict is set") == 1,
            code => panic!("operation {code:#x} is not used"),
        }
    }
    panic!("the program does not end")
}

/// Every instruction can be reached: the kernel refuses programs where one cannot.
fn all_reachable(program: &[Instruction]) -> bool {
    let mut reached = vec![false; program.len()];
    let mut todo = vec![0];
    while let Some(at) = todo.pop() {
        if std::mem::replace(&mut reached[at], true) {
            continue;
        }
        let i = program[at];
        match i.code {
            EXIT => {}
            JUMP_EQUAL | JUMP_NOT_EQUAL => todo.extend([at + 1, at + 1 + i.offset as usize]),
            _ => todo.push(at + 1),
        }
    }
    reached.into_iter().all(|r| r)
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let number = || prop::option::of(0_u32..4);
    (any::<bool>(), prop::option::of(1_u32..3), number(), number(), 0_u32..8)
        .prop_map(|(allow, kind, major, minor, access)| Rule { allow, kind, major, minor, access })
}

proptest! {
    #[test]
    fn the_program_decides_as_the_rules_say(
        rules in prop::collection::vec(any_rule(), 0..12),
        kind in 1_u32..3, major in 0_u32..5, minor in 0_u32..5, access in 0_u32..8,
    ) {
        let program = compile(&rules);
        prop_assert!(all_reachable(&program));
        prop_assert_eq!(
            run(&program, [access << 16 | kind, major, minor]),
            allowed(&rules, kind, major, minor, access)
        );
    }
}

fn parsed(json: &str) -> Vec<Rule> {
    with_defaults(&serde_json::from_str::<Vec<LinuxDeviceCgroup>>(json).unwrap())
}

#[test]
fn denying_all_leaves_the_default_devices() {
    let program = compile(&parsed(r#"[{"allow":false,"access":"rwm"}]"#));
    let asks = |kind, major, minor, access| run(&program, [access << 16 | kind, major, minor]);
    assert!(asks(CHARACTER, 1, 3, READ | WRITE));
    assert!(asks(CHARACTER, 5, 2, READ | WRITE));
    assert!(asks(CHARACTER, 136, 7, READ | WRITE));
    assert!(asks(BLOCK, 8, 0, MKNOD));
    assert!(!asks(BLOCK, 8, 0, READ));
    assert!(!asks(CHARACTER, 10, 229, READ));
}

#[test]
fn what_no_rule_allows_is_denied() {
    for json in ["[]", r#"[{"allow":true,"type":"c","major":10,"minor":200,"access":"rwm"}]"#] {
        let program = compile(&parsed(json));
        let asks = |kind, major, minor, access| run(&program, [access << 16 | kind, major, minor]);
        assert!(asks(CHARACTER, 1, 3, READ | WRITE), "{json}");
        assert!(!asks(BLOCK, 8, 0, READ), "{json}");
        assert_eq!(asks(CHARACTER, 10, 200, READ | WRITE), json != "[]", "{json}");
    }
    let all = parsed(r#"[{"allow":true,"access":"rwm"}]"#);
    assert!(run(&compile(&all), [READ << 16 | BLOCK, 8, 0]));
}

#[test]
fn a_rule_for_writing_does_not_let_read_and_write_together_slip_through() {
    let rules = parsed(
        r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"b","major":8,"access":"rw"},
            {"allow":false,"type":"b","major":8,"minor":1,"access":"w"}]"#,
    );
    let program = compile(&rules);
    let asks = |minor, access| run(&program, [access << 16 | BLOCK, 8, minor]);
    assert!(asks(0, READ | WRITE));
    assert!(asks(1, READ));
    assert!(!asks(1, READ | WRITE));
}

#[test]
fn negative_numbers_and_missing_ones_match_all() {
    let rules: Vec<LinuxDeviceCgroup> =
        serde_json::from_str(r#"[{"allow":true,"type":"c","major":-1,"access":"r"}]"#).unwrap();
    let rule = Rule::of(&rules[0]);
    assert_eq!(rule, Rule { allow: true, kind: Some(CHARACTER), major: None, minor: None, access: READ });
    assert_eq!(rule.v1_text(), "c *:* r");
}
