//! vwsd
