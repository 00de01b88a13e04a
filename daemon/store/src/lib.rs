//! vws-store
