//! vws-tests
