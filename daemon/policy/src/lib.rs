//! vws-policy
