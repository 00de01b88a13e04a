//! stub
use vws_domain::{HostJudgement, HostName, Verdict, PlacementInput, Candidate};
#[derive(Clone, Debug, PartialEq)]
pub struct Placement { pub verdict: Verdict, pub host: Option<HostName>, pub hosts: Vec<HostJudgement> }
#[derive(Default)]
pub(crate) struct Columns;
pub(crate) fn decide(_e: &mut crate::Evaluator, _input: &PlacementInput, _c: &[Candidate], _x: bool) -> Placement {
    Placement { verdict: crate::unavailable("placement", 0, &[]), host: None, hosts: vec![] }
}
