//! Drives the built `kit-monitor` with real containers made by the built `kitc`.
//!
//! Every test has a pod of its own, which is buried when it ends. Tests that need root or busybox say so
//! and pass where there is none.

#[allow(dead_code)]
#[path = "../container/support.rs"]
mod container;

mod end;
mod lifecycle;
mod logs;
mod namespaces;
mod requests;
mod streams;
mod support;
