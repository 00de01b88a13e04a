//! The Lua edge: the site's three policies, judged in a sandbox. The only crate that names mlua.
//!
//! Owns: reading and compiling a policy set, the sandbox and its limits, the documents that scripts see, the verdicts that
//! they give, placement over many hosts. Built on `vws-domain` alone, so that the daemon and the offline tools run the same code.
//! Must not know: where requests come from, what is done with a verdict, D-Bus, SQL, clocks (`now` is part of the input; the
//! only clock read here is the one that stops a script).
//!
//! ```text
//! folder -> Sources -> PolicySet (compiled, checked, immutable, shared) -> Evaluator (one Luau state, one thread at a time)
//! ```
//!
//! Nothing is carried from one decision to the next: each runs the file's chunk anew, with fresh globals and fresh top-level
//! locals, over inputs that are frozen.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking"))]

mod cases;
mod check;
mod coverage;
mod document;
mod evaluator;
mod facts;
mod fault;
mod limits;
mod placement;
mod problem;
mod sandbox;
mod scaffold;
mod schema;
mod set;
mod source;
mod stubs;
mod suggest;
mod verdict;

pub use cases::{TestReport, TestResult, run_tests};
pub use check::{Examination, examine};
pub use coverage::Coverage;
pub use evaluator::Evaluator;
pub use facts::Question;
pub use limits::{Limits, source_limits};
pub use placement::Placement;
pub use problem::Problem;
pub use scaffold::{editor_files, scaffold};
pub use set::PolicySet;
pub use source::Sources;
pub use verdict::unavailable;
pub use vws_domain::{HostJudgement, HostOutcome};

/// The three policies, in the order in which they judge. Each is the file of that name with `.lua`.
pub const POLICIES: [&str; 3] = ["access", "quota", "placement"];
