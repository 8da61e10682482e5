-- +goose Up
ALTER TABLE accounts
	ADD COLUMN pending     boolean NOT NULL DEFAULT false,
	ADD COLUMN reset       text NOT NULL DEFAULT '', -- the hash of a code; empty: there is none
	ADD COLUMN reset_until timestamptz;
