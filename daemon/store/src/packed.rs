//! A decision's body, packed: its stored form as JSON text, deflated against a dictionary of what decisions say over and over.
//!
//! Owns: that format. A million decisions have to stay under a GiB, and most of what one says (the caller, the images, the words of its
//! rules) the next one says again. The first byte names the dictionary; a released one never changes, a better one gets the next number.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use vws_domain::{Before, Caller, Decision, HostJudgement, Request, Seen, Verdict};

use crate::fail::{Fail, Tried};
use crate::rows::{self, Stored};

/// The first dictionary: words that the stored form is full of, the most frequent last.
const FIRST: (u8, &[u8]) = (1, include_bytes!("decisions.dictionary"));
/// Bytes of a body when it is unpacked, at most: what is longer was not written by us.
const MOST: usize = 16 << 20;

/// What a decision's body holds.
pub(crate) struct Body {
    pub(crate) request: Request,
    pub(crate) before: Before,
    pub(crate) caller: Caller,
    pub(crate) seen: Option<Seen>,
    pub(crate) verdicts: Vec<Verdict>,
    pub(crate) hosts: Vec<HostJudgement>,
}

type Written = (rows::Request, rows::Before, rows::Caller, Option<rows::Seen>, Vec<rows::Verdict>, Vec<rows::HostJudgement>);

/// The packed body of a decision.
pub(crate) fn body(decision: &Decision) -> Tried<Vec<u8>> {
    let written: Written = (
        Stored::of(&decision.request),
        Stored::of(&decision.before),
        Stored::of(&decision.caller),
        Stored::of(&decision.seen),
        Stored::of(&decision.verdicts),
        Stored::of(&decision.hosts),
    );
    let text = serde_json::to_vec(&written).map_err(|error| Fail::Value(error.to_string()))?;
    let failed = |what: String| Fail::Value(format!("a decision cannot be packed: {what}"));
    let mut deflate = Compress::new(Compression::new(5), false);
    deflate.set_dictionary(FIRST.1).map_err(|error| failed(error.to_string()))?;
    let length =
        u32::try_from(text.len()).ok().filter(|_| text.len() <= MOST).ok_or_else(|| failed("it is too long".to_owned()))?;
    let mut packed = Vec::with_capacity(text.len() / 2 + 128);
    packed.push(FIRST.0);
    packed.extend(length.to_le_bytes());
    loop {
        let taken = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX);
        let rest = text.get(taken..).unwrap_or_default();
        match deflate.compress_vec(rest, &mut packed, FlushCompress::Finish) {
            Ok(Status::StreamEnd) => return Ok(packed),
            Ok(_) => packed.reserve(text.len() / 2 + 128),
            Err(error) => return Err(failed(error.to_string())),
        }
    }
}

/// The body that was packed.
pub(crate) fn read(packed: &[u8]) -> Result<Body, String> {
    let (Some((&dictionary, rest)), Some(length)) = (packed.split_first(), packed.get(1..5)) else {
        return Err("it is cut off".to_owned());
    };
    if dictionary != FIRST.0 {
        return Err(format!("its dictionary {dictionary} is not known"));
    }
    let length = u32::from_le_bytes(length.try_into().unwrap_or_default()) as usize;
    if length > MOST {
        return Err(format!("says that it has {length} bytes"));
    }
    let mut inflate = Decompress::new(false);
    inflate.set_dictionary(FIRST.1).map_err(|error| error.to_string())?;
    let mut text = Vec::with_capacity(length);
    let deflated = rest.get(4..).unwrap_or_default();
    let ended = inflate.decompress_vec(deflated, &mut text, FlushDecompress::Finish).map_err(|error| error.to_string())?;
    if ended != Status::StreamEnd || text.len() != length {
        return Err("it is cut off".to_owned());
    }
    let (request, before, caller, seen, verdicts, hosts): Written =
        serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    Ok(Body {
        request: request.back()?,
        before: before.back()?,
        caller: caller.back()?,
        seen: seen.back()?,
        verdicts: verdicts.back()?,
        hosts: hosts.back()?,
    })
}
