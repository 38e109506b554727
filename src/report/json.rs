//! The report as JSON: pretty, keys in the order of docs/report.schema.json.

use super::{Format, Report};

pub(super) struct Json;

impl Format for Json {
    fn name(&self) -> &'static str {
        "json"
    }

    fn write(&self, report: &Report) -> Vec<u8> {
        // Writing to memory fails for maps with keys that are no strings only: there are none.
        let mut out = serde_json::to_vec_pretty(report).unwrap_or_default();
        out.push(b'\n');
        out
    }
}
