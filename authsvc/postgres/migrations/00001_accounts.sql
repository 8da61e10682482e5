-- +goose Up
CREATE TABLE accounts (
	id         text COLLATE "C" PRIMARY KEY,
	email      text NOT NULL,
	typed      text NOT NULL,
	role       text NOT NULL CHECK (role IN ('user', 'raider')),
	hash       text NOT NULL CHECK (hash <> ''),
	created    timestamptz NOT NULL,
	demo       boolean NOT NULL,
	disabled   boolean NOT NULL,
	era        integer NOT NULL CHECK (era >= 0),
	not_before timestamptz, -- null: the first era
	revision   bigint NOT NULL CHECK (revision > 0),
	UNIQUE (email, role)
);
