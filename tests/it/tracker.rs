//! Trackers of other makers, and what their protocols brought for all hits.

mod fields;
