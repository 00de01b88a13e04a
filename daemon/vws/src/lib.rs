//! vws
