//! Any bytes, taken as a boot plan, are refused, or are a plan that can be executed and reads back.
#![no_main]

use kit_spec::plan::Plan;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(plan) = Plan::parse(bytes) else { return };
    assert!(plan.check().is_ok());
    let again = serde_json::to_vec(&plan).expect("a plan is JSON");
    assert_eq!(Plan::parse(&again).ok(), Some(plan));
});
