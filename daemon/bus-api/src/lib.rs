//! vws-bus
