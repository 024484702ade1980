--
-- PostgreSQL database dump
--


-- Dumped from database version 15.18 (Debian 15.18-0+deb12u1)
-- Dumped by pg_dump version 15.18 (Debian 15.18-0+deb12u1)

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: microseconds_of_some_use(tstzmultirange, timestamp with time zone, timestamp with time zone); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.microseconds_of_some_use(usage tstzmultirange, since timestamp with time zone, until timestamp with time zone) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (SELECT (COALESCE(sum(((EXTRACT(epoch FROM (upper(part.part) - lower(part.part))) * (1000000)::numeric))::bigint), (0)::numeric))::bigint AS "coalesce" FROM unnest((microseconds_of_some_use.usage * tstzmultirange(tstzrange(microseconds_of_some_use.since, microseconds_of_some_use.until)))) part(part));


--
-- Name: microseconds_of_use(tstzmultirange, timestamp with time zone, timestamp with time zone); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.microseconds_of_use(usage tstzmultirange, since timestamp with time zone, until timestamp with time zone) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (usage @> tstzrange(since, until)) THEN ((EXTRACT(epoch FROM (until - since)) * (1000000)::numeric))::bigint ELSE public.microseconds_of_some_use(usage, since, until) END;


SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: _yoyo_log; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public._yoyo_log (
    id character varying(36) NOT NULL,
    migration_hash character varying(64),
    migration_id character varying(255),
    operation character varying(10),
    username character varying(255),
    hostname character varying(255),
    comment character varying(255),
    created_at_utc timestamp without time zone
);


--
-- Name: _yoyo_migration; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public._yoyo_migration (
    migration_hash character varying(64) NOT NULL,
    migration_id character varying(255),
    applied_at_utc timestamp without time zone
);


--
-- Name: _yoyo_version; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public._yoyo_version (
    version integer NOT NULL,
    installed_at_utc timestamp without time zone
);


--
-- Name: account; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.account (
    id uuid NOT NULL,
    client text NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    email text NOT NULL,
    region text NOT NULL,
    vip boolean NOT NULL,
    closed_at timestamp with time zone
);


--
-- Name: agent; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.agent (
    id uuid NOT NULL,
    account_id uuid NOT NULL,
    client text NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    email text NOT NULL,
    blocked boolean NOT NULL,
    removed_at timestamp with time zone
)
WITH (fillfactor='80');


--
-- Name: billing_account; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.billing_account (
    id uuid NOT NULL,
    client text NOT NULL,
    name text NOT NULL,
    region text NOT NULL,
    vip boolean NOT NULL,
    opened_at timestamp with time zone NOT NULL,
    closed_at timestamp with time zone
);


--
-- Name: billing_agent; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.billing_agent (
    id uuid NOT NULL,
    account_id uuid NOT NULL,
    name text NOT NULL,
    region text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    removed_at timestamp with time zone,
    usage tstzmultirange NOT NULL,
    version integer NOT NULL
)
WITH (fillfactor='50');


--
-- Name: buy_order; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.buy_order (
    id uuid NOT NULL,
    client text NOT NULL,
    placed_at timestamp with time zone NOT NULL,
    currency text NOT NULL,
    currency_amount numeric NOT NULL,
    btc_rate numeric NOT NULL,
    btc_amount numeric NOT NULL,
    price_source text NOT NULL,
    CONSTRAINT buy_order_btc_amount_check CHECK (((btc_amount > (0)::numeric) AND (btc_amount < 'Infinity'::numeric))),
    CONSTRAINT buy_order_btc_rate_check CHECK (((btc_rate > (0)::numeric) AND (btc_rate < 'Infinity'::numeric))),
    CONSTRAINT buy_order_currency_amount_check CHECK (((currency_amount > (0)::numeric) AND (currency_amount < 'Infinity'::numeric)))
);


--
-- Name: compliance_agent; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.compliance_agent (
    id uuid NOT NULL,
    account_id uuid NOT NULL,
    name text NOT NULL,
    email text NOT NULL,
    region text NOT NULL,
    is_blocked boolean NOT NULL,
    created_at timestamp with time zone NOT NULL,
    removed_at timestamp with time zone,
    version integer NOT NULL
)
WITH (fillfactor='80');


--
-- Name: compliance_request; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.compliance_request (
    id uuid NOT NULL,
    number bigint NOT NULL,
    agent_id uuid NOT NULL,
    action text NOT NULL,
    reason text,
    requested_by text NOT NULL,
    fingerprint text NOT NULL,
    requested_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    state text DEFAULT 'waiting'::text NOT NULL,
    detail text,
    attempts integer DEFAULT 0 NOT NULL,
    due_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    sent_at timestamp with time zone,
    answered_at timestamp with time zone,
    CONSTRAINT compliance_request_action_check CHECK ((action = ANY (ARRAY['block'::text, 'unblock'::text]))),
    CONSTRAINT compliance_request_check CHECK (((answered_at IS NULL) = (state = ANY (ARRAY['waiting'::text, 'sent'::text])))),
    CONSTRAINT compliance_request_state_check CHECK ((state = ANY (ARRAY['waiting'::text, 'sent'::text, 'done'::text, 'unchanged'::text, 'refused'::text])))
)
WITH (fillfactor='70');


--
-- Name: compliance_request_number_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.compliance_request ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.compliance_request_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: discarded_event; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.discarded_event (
    projector text NOT NULL,
    partition smallint NOT NULL,
    "position" bigint NOT NULL,
    stream_id uuid NOT NULL,
    version integer NOT NULL,
    type text NOT NULL,
    reason text NOT NULL,
    discarded_at timestamp with time zone DEFAULT now() NOT NULL
);


--
-- Name: parked_event; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.parked_event (
    projector text NOT NULL,
    partition smallint NOT NULL,
    "position" bigint NOT NULL,
    stream_id uuid NOT NULL,
    version integer NOT NULL,
    type text NOT NULL
);


--
-- Name: parked_stream; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.parked_stream (
    projector text NOT NULL,
    stream_id uuid NOT NULL,
    partition smallint NOT NULL,
    category text NOT NULL,
    reason text NOT NULL,
    parked_at timestamp with time zone DEFAULT now() NOT NULL
);


--
-- Name: projection_attempt; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.projection_attempt (
    projector text NOT NULL,
    partition smallint NOT NULL,
    first_position bigint NOT NULL,
    last_position bigint NOT NULL,
    attempts integer NOT NULL
)
WITH (fillfactor='10');


--
-- Name: projection_checkpoint; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.projection_checkpoint (
    projector text NOT NULL,
    partition smallint NOT NULL,
    "position" bigint DEFAULT 0 NOT NULL,
    parked_streams integer DEFAULT 0 NOT NULL,
    CONSTRAINT projection_checkpoint_parked_streams_check CHECK ((parked_streams >= 0)),
    CONSTRAINT projection_checkpoint_position_check CHECK (("position" >= 0))
)
WITH (fillfactor='10');


--
-- Name: vip_account; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.vip_account (
    id uuid NOT NULL,
    region text NOT NULL,
    opened_at timestamp with time zone NOT NULL,
    closed_at timestamp with time zone
);


--
-- Name: vip_agent; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.vip_agent (
    id uuid NOT NULL,
    account_id uuid NOT NULL,
    region text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    removed_at timestamp with time zone,
    usage tstzmultirange NOT NULL,
    version integer NOT NULL
)
WITH (fillfactor='50');


--
-- Name: yoyo_lock; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.yoyo_lock (
    locked integer DEFAULT 1 NOT NULL,
    ctime timestamp without time zone,
    pid integer NOT NULL
);


--
-- Data for Name: _yoyo_log; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public._yoyo_log (id, migration_hash, migration_id, operation, username, hostname, comment, created_at_utc) VALUES ('1ea4309a-e8e6-11f1-a770-02fc00000001', '9483420cd5dc02ace419e6d6e6ee45759eeaa82b01a6308ff02c62342e476c8c', '0001_create_projection_state', 'apply', 'somebody', 'somewhere', NULL, '2025-01-14 09:00:00');
INSERT INTO public._yoyo_log (id, migration_hash, migration_id, operation, username, hostname, comment, created_at_utc) VALUES ('1eabf708-e8e6-11f1-a770-02fc00000001', '015191927ead9e91460319f257d0421fe651a72b6b0e6f27c75f44adc5b2a65b', '0002_create_buy_order', 'apply', 'somebody', 'somewhere', NULL, '2025-01-14 09:00:00');
INSERT INTO public._yoyo_log (id, migration_hash, migration_id, operation, username, hostname, comment, created_at_utc) VALUES ('1eb8e30a-e8e6-11f1-a770-02fc00000001', 'aa0dd49a15873e1aa702f81dfa4fc43409a1616c05c8aab99c900f7c4128b920', '0003_create_roles', 'apply', 'somebody', 'somewhere', NULL, '2025-01-14 09:00:00');
INSERT INTO public._yoyo_log (id, migration_hash, migration_id, operation, username, hostname, comment, created_at_utc) VALUES ('1ec8859e-e8e6-11f1-a770-02fc00000001', 'ce084768ecdabac07711a76029bb245d174be974a01dea320b6b0ac986dd81b8', '0004_create_account_and_agent', 'apply', 'somebody', 'somewhere', NULL, '2025-01-14 09:00:00');
INSERT INTO public._yoyo_log (id, migration_hash, migration_id, operation, username, hostname, comment, created_at_utc) VALUES ('1eda0dfa-e8e6-11f1-a770-02fc00000001', 'd8aa821739ccdd448ddee6a39579523e2b3fa3aad80418b537e2f122ecf9f601', '0005_create_billing', 'apply', 'somebody', 'somewhere', NULL, '2025-01-14 09:00:00');
INSERT INTO public._yoyo_log (id, migration_hash, migration_id, operation, username, hostname, comment, created_at_utc) VALUES ('1ee1af88-e8e6-11f1-a770-02fc00000001', 'b5d9e4d06909be7c68598eaee5114344778365706c42f7789c40c2e6bb537ac7', '0006_create_vip_customers', 'apply', 'somebody', 'somewhere', NULL, '2025-01-14 09:00:00');
INSERT INTO public._yoyo_log (id, migration_hash, migration_id, operation, username, hostname, comment, created_at_utc) VALUES ('1ef0dc06-e8e6-11f1-a770-02fc00000001', 'db451889e4745b3fd6c5c5dc5b837e0a7505962a74eb22bc17047e0ed64cc0b8', '0007_create_compliance', 'apply', 'somebody', 'somewhere', NULL, '2025-01-14 09:00:00');
INSERT INTO public._yoyo_log (id, migration_hash, migration_id, operation, username, hostname, comment, created_at_utc) VALUES ('1efa7e96-e8e6-11f1-a770-02fc00000001', 'e15a8886eb0e7b1860291a37bed0cbf646836c0684a0cbcba0ea6ada3ec256d6', '0008_turn_indexes_of_buy_order', 'apply', 'somebody', 'somewhere', NULL, '2025-01-14 09:00:00');


--
-- Data for Name: _yoyo_migration; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public._yoyo_migration (migration_hash, migration_id, applied_at_utc) VALUES ('9483420cd5dc02ace419e6d6e6ee45759eeaa82b01a6308ff02c62342e476c8c', '0001_create_projection_state', '2025-01-14 09:00:00');
INSERT INTO public._yoyo_migration (migration_hash, migration_id, applied_at_utc) VALUES ('015191927ead9e91460319f257d0421fe651a72b6b0e6f27c75f44adc5b2a65b', '0002_create_buy_order', '2025-01-14 09:00:00');
INSERT INTO public._yoyo_migration (migration_hash, migration_id, applied_at_utc) VALUES ('aa0dd49a15873e1aa702f81dfa4fc43409a1616c05c8aab99c900f7c4128b920', '0003_create_roles', '2025-01-14 09:00:00');
INSERT INTO public._yoyo_migration (migration_hash, migration_id, applied_at_utc) VALUES ('ce084768ecdabac07711a76029bb245d174be974a01dea320b6b0ac986dd81b8', '0004_create_account_and_agent', '2025-01-14 09:00:00');
INSERT INTO public._yoyo_migration (migration_hash, migration_id, applied_at_utc) VALUES ('d8aa821739ccdd448ddee6a39579523e2b3fa3aad80418b537e2f122ecf9f601', '0005_create_billing', '2025-01-14 09:00:00');
INSERT INTO public._yoyo_migration (migration_hash, migration_id, applied_at_utc) VALUES ('b5d9e4d06909be7c68598eaee5114344778365706c42f7789c40c2e6bb537ac7', '0006_create_vip_customers', '2025-01-14 09:00:00');
INSERT INTO public._yoyo_migration (migration_hash, migration_id, applied_at_utc) VALUES ('db451889e4745b3fd6c5c5dc5b837e0a7505962a74eb22bc17047e0ed64cc0b8', '0007_create_compliance', '2025-01-14 09:00:00');
INSERT INTO public._yoyo_migration (migration_hash, migration_id, applied_at_utc) VALUES ('e15a8886eb0e7b1860291a37bed0cbf646836c0684a0cbcba0ea6ada3ec256d6', '0008_turn_indexes_of_buy_order', '2025-01-14 09:00:00');


--
-- Data for Name: _yoyo_version; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public._yoyo_version (version, installed_at_utc) VALUES (2, '2025-01-14 09:00:00');


--
-- Data for Name: account; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.account (id, client, name, email, region, vip, closed_at) VALUES ('12b71629-2aa6-5a4b-b507-0ad37d4b3874', 'alice', 'Blue', 'office@blue.example', 'emea', true, NULL);
INSERT INTO public.account (id, client, name, email, region, vip, closed_at) VALUES ('9b258faf-9334-5600-a66a-a51830b2aab0', 'alice', 'zoe', 'zoe@green.example', 'nam', false, NULL);
INSERT INTO public.account (id, client, name, email, region, vip, closed_at) VALUES ('90ba8871-d097-5b45-9af2-9b32c81f6a7c', 'bob', 'Éva', 'eva@red.example', 'apac', true, NULL);
INSERT INTO public.account (id, client, name, email, region, vip, closed_at) VALUES ('78e114b5-8fb6-5948-b203-c434922a2ab9', 'bob', 'Zoe', 'Zoe@grey.example', 'emea', false, NULL);
INSERT INTO public.account (id, client, name, email, region, vip, closed_at) VALUES ('7c366a86-4780-54c1-98ea-448c4f6c97f0', 'alice', 'Short again', 'office@short.example', 'nam', true, NULL);
INSERT INTO public.account (id, client, name, email, region, vip, closed_at) VALUES ('c27464aa-8037-5d2a-ab07-414d0757352f', 'bob', 'Short', 'office@short.example', 'nam', true, '2025-03-25 07:31:34.823451+00');


--
-- Data for Name: agent; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.agent (id, account_id, client, name, email, blocked, removed_at) VALUES ('72166ff3-9d0c-5f14-9dc2-f25a5d7b2b09', '12b71629-2aa6-5a4b-b507-0ad37d4b3874', 'alice', 'Ben', 'Ben@blue.example', false, NULL);
INSERT INTO public.agent (id, account_id, client, name, email, blocked, removed_at) VALUES ('5be7b375-b26a-561b-88eb-d9fa55179d82', '7c366a86-4780-54c1-98ea-448c4f6c97f0', 'alice', 'Gil', 'gil@short.example', false, NULL);
INSERT INTO public.agent (id, account_id, client, name, email, blocked, removed_at) VALUES ('723ef200-95cd-5f82-b249-9381e6542ea4', 'c27464aa-8037-5d2a-ab07-414d0757352f', 'bob', 'Gil', 'gil@short.example', false, '2025-03-28 02:38:47.926389+00');
INSERT INTO public.agent (id, account_id, client, name, email, blocked, removed_at) VALUES ('8a0ed482-4ea3-5af9-85a8-d4243b4e57f7', 'c27464aa-8037-5d2a-ab07-414d0757352f', 'bob', 'Hal', 'hal@short.example', true, '2025-03-30 21:46:01.029327+00');
INSERT INTO public.agent (id, account_id, client, name, email, blocked, removed_at) VALUES ('952fe5e8-3d12-53ec-8a7f-f0a09f50c53f', '9b258faf-9334-5600-a66a-a51830b2aab0', 'alice', 'Ivy', 'ivy@green.example', false, '2025-03-22 12:24:21.720513+00');
INSERT INTO public.agent (id, account_id, client, name, email, blocked, removed_at) VALUES ('a0c23669-2404-56bb-9f9f-550f94d00918', '9b258faf-9334-5600-a66a-a51830b2aab0', 'alice', 'Cy', 'cy@green.example', true, NULL);
INSERT INTO public.agent (id, account_id, client, name, email, blocked, removed_at) VALUES ('a2d7f8aa-9d9c-580a-91f9-1de54a98985a', '78e114b5-8fb6-5948-b203-c434922a2ab9', 'bob', 'Fay', 'fay@grey.example', false, NULL);
INSERT INTO public.agent (id, account_id, client, name, email, blocked, removed_at) VALUES ('c2b1b076-ed26-5c6d-a436-5799a3bffb0f', '12b71629-2aa6-5a4b-b507-0ad37d4b3874', 'alice', 'Anna', 'anna@blue.example', false, NULL);
INSERT INTO public.agent (id, account_id, client, name, email, blocked, removed_at) VALUES ('c53cd801-564b-5a3b-a4ad-566706210bb5', '90ba8871-d097-5b45-9af2-9b32c81f6a7c', 'bob', 'Eli', 'eli@red.example', true, NULL);
INSERT INTO public.agent (id, account_id, client, name, email, blocked, removed_at) VALUES ('d90884a5-86d3-5db2-b537-4e7eeb02e3e2', '90ba8871-d097-5b45-9af2-9b32c81f6a7c', 'bob', 'Dov Ünal', 'dov@red.example', false, NULL);


--
-- Data for Name: billing_account; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.billing_account (id, client, name, region, vip, opened_at, closed_at) VALUES ('12b71629-2aa6-5a4b-b507-0ad37d4b3874', 'alice', 'Blue', 'emea', true, '2025-01-22 18:52:46.558815+00', NULL);
INSERT INTO public.billing_account (id, client, name, region, vip, opened_at, closed_at) VALUES ('9b258faf-9334-5600-a66a-a51830b2aab0', 'alice', 'zoe', 'nam', false, '2025-01-25 13:59:59.661753+00', NULL);
INSERT INTO public.billing_account (id, client, name, region, vip, opened_at, closed_at) VALUES ('90ba8871-d097-5b45-9af2-9b32c81f6a7c', 'bob', 'Éva', 'apac', true, '2025-01-28 09:07:12.764691+00', NULL);
INSERT INTO public.billing_account (id, client, name, region, vip, opened_at, closed_at) VALUES ('78e114b5-8fb6-5948-b203-c434922a2ab9', 'bob', 'Zoe', 'emea', false, '2025-01-31 04:14:25.867629+00', NULL);
INSERT INTO public.billing_account (id, client, name, region, vip, opened_at, closed_at) VALUES ('7c366a86-4780-54c1-98ea-448c4f6c97f0', 'alice', 'Short again', 'nam', true, '2025-04-02 16:53:14.132265+00', NULL);
INSERT INTO public.billing_account (id, client, name, region, vip, opened_at, closed_at) VALUES ('c27464aa-8037-5d2a-ab07-414d0757352f', 'bob', 'Short', 'nam', true, '2025-03-05 17:41:03.102885+00', '2025-03-25 07:31:34.823451+00');


--
-- Data for Name: billing_agent; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.billing_agent (id, account_id, name, region, created_at, removed_at, usage, version) VALUES ('5be7b375-b26a-561b-88eb-d9fa55179d82', '7c366a86-4780-54c1-98ea-448c4f6c97f0', 'Gil', 'nam', '2025-04-05 12:00:27.235203+00', NULL, '{["2025-04-05 12:00:27.235203+00",)}', 1);
INSERT INTO public.billing_agent (id, account_id, name, region, created_at, removed_at, usage, version) VALUES ('72166ff3-9d0c-5f14-9dc2-f25a5d7b2b09', '12b71629-2aa6-5a4b-b507-0ad37d4b3874', 'Ben', 'emea', '2025-02-05 18:28:52.073505+00', NULL, '{["2025-02-05 18:28:52.073505+00",)}', 1);
INSERT INTO public.billing_agent (id, account_id, name, region, created_at, removed_at, usage, version) VALUES ('723ef200-95cd-5f82-b249-9381e6542ea4', 'c27464aa-8037-5d2a-ab07-414d0757352f', 'Gil', 'nam', '2025-03-08 12:48:16.205823+00', '2025-03-28 02:38:47.926389+00', '{["2025-03-08 12:48:16.205823+00","2025-03-28 02:38:47.926389+00")}', 2);
INSERT INTO public.billing_agent (id, account_id, name, region, created_at, removed_at, usage, version) VALUES ('8a0ed482-4ea3-5af9-85a8-d4243b4e57f7', 'c27464aa-8037-5d2a-ab07-414d0757352f', 'Hal', 'nam', '2025-03-11 07:55:29.308761+00', '2025-03-30 21:46:01.029327+00', '{["2025-03-11 07:55:29.308761+00","2025-03-14 03:02:42.411699+00")}', 3);
INSERT INTO public.billing_agent (id, account_id, name, region, created_at, removed_at, usage, version) VALUES ('952fe5e8-3d12-53ec-8a7f-f0a09f50c53f', '9b258faf-9334-5600-a66a-a51830b2aab0', 'Ivy', 'nam', '2025-03-19 17:17:08.617575+00', '2025-03-22 12:24:21.720513+00', '{["2025-03-19 17:17:08.617575+00","2025-03-22 12:24:21.720513+00")}', 2);
INSERT INTO public.billing_agent (id, account_id, name, region, created_at, removed_at, usage, version) VALUES ('a0c23669-2404-56bb-9f9f-550f94d00918', '9b258faf-9334-5600-a66a-a51830b2aab0', 'Cy', 'nam', '2025-02-08 13:36:05.176443+00', NULL, '{["2025-02-08 13:36:05.176443+00","2025-04-11 02:14:53.441079+00")}', 2);
INSERT INTO public.billing_agent (id, account_id, name, region, created_at, removed_at, usage, version) VALUES ('a2d7f8aa-9d9c-580a-91f9-1de54a98985a', '78e114b5-8fb6-5948-b203-c434922a2ab9', 'Fay', 'emea', '2025-02-16 22:57:44.485257+00', NULL, '{["2025-02-16 22:57:44.485257+00","2025-03-02 22:33:49.999947+00"),["2025-04-22 06:43:45.852831+00",)}', 3);
INSERT INTO public.billing_agent (id, account_id, name, region, created_at, removed_at, usage, version) VALUES ('c2b1b076-ed26-5c6d-a436-5799a3bffb0f', '12b71629-2aa6-5a4b-b507-0ad37d4b3874', 'Anna', 'emea', '2025-02-02 23:21:38.970567+00', NULL, '{["2025-02-02 23:21:38.970567+00","2025-02-22 13:12:10.691133+00"),["2025-02-25 08:19:23.794071+00",)}', 3);
INSERT INTO public.billing_agent (id, account_id, name, region, created_at, removed_at, usage, version) VALUES ('c53cd801-564b-5a3b-a4ad-566706210bb5', '90ba8871-d097-5b45-9af2-9b32c81f6a7c', 'Eli', 'apac', '2025-02-14 03:50:31.382319+00', NULL, '{["2025-02-14 03:50:31.382319+00","2025-04-19 11:36:32.749893+00")}', 2);
INSERT INTO public.billing_agent (id, account_id, name, region, created_at, removed_at, usage, version) VALUES ('d90884a5-86d3-5db2-b537-4e7eeb02e3e2', '90ba8871-d097-5b45-9af2-9b32c81f6a7c', 'Dov Ünal', 'apac', '2025-02-11 08:43:18.279381+00', NULL, '{["2025-02-11 08:43:18.279381+00","2025-02-28 03:26:36.897009+00"),["2025-04-08 07:07:40.338141+00",)}', 3);


--
-- Data for Name: buy_order; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.buy_order (id, client, placed_at, currency, currency_amount, btc_rate, btc_amount, price_source) VALUES ('d7af1d89-dbbc-54ca-aec5-30b28de25d77', 'alice', '2025-01-14 09:31:07.250001+00', 'USD', 123.45, 63120.015, 0.00195580, 'coinbase');
INSERT INTO public.buy_order (id, client, placed_at, currency, currency_amount, btc_rate, btc_amount, price_source) VALUES ('29030301-ed60-5e67-b224-72ebef85c9ab', 'alice', '2025-01-17 04:38:20.352939+00', 'EUR', 99.99, 58211.40, 0.00171771, 'coinbase');
INSERT INTO public.buy_order (id, client, placed_at, currency, currency_amount, btc_rate, btc_amount, price_source) VALUES ('184941ca-7c30-5440-89fb-70d9a1249efc', 'bob', '2025-01-19 23:45:33.455877+00', 'GBP', 0.01, 49876.55, 0.00000021, 'coinbase');
INSERT INTO public.buy_order (id, client, placed_at, currency, currency_amount, btc_rate, btc_amount, price_source) VALUES ('913d3c73-7e8e-500e-b513-1ba924d5eb01', 'bob', '2025-02-19 18:04:57.588195+00', 'USD', 2500.00, 63120.015, 0.03960709, 'coinbase');
INSERT INTO public.buy_order (id, client, placed_at, currency, currency_amount, btc_rate, btc_amount, price_source) VALUES ('15d96864-fa5e-5d26-911e-f29f60f105e3', 'bob', '2025-03-16 22:09:55.514637+00', 'EUR', 1000.50, 58211.40, 0.01718736, 'coinbase');
INSERT INTO public.buy_order (id, client, placed_at, currency, currency_amount, btc_rate, btc_amount, price_source) VALUES ('85f4d048-2420-5cc7-848b-969625333394', 'alice', '2025-04-13 21:22:06.544017+00', 'GBP', 77.70, 38307.95, 0.00202830, 'demo');
INSERT INTO public.buy_order (id, client, placed_at, currency, currency_amount, btc_rate, btc_amount, price_source) VALUES ('8c4d93d3-3885-56cd-877c-a28582d75fb3', 'bob', '2025-04-16 16:29:19.646955+00', 'EUR', 3.33, 44190.67, 0.00007536, 'demo');


--
-- Data for Name: compliance_agent; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.compliance_agent (id, account_id, name, email, region, is_blocked, created_at, removed_at, version) VALUES ('5be7b375-b26a-561b-88eb-d9fa55179d82', '7c366a86-4780-54c1-98ea-448c4f6c97f0', 'Gil', 'gil@short.example', 'nam', false, '2025-04-05 12:00:27.235203+00', NULL, 1);
INSERT INTO public.compliance_agent (id, account_id, name, email, region, is_blocked, created_at, removed_at, version) VALUES ('72166ff3-9d0c-5f14-9dc2-f25a5d7b2b09', '12b71629-2aa6-5a4b-b507-0ad37d4b3874', 'Ben', 'Ben@blue.example', 'emea', false, '2025-02-05 18:28:52.073505+00', NULL, 1);
INSERT INTO public.compliance_agent (id, account_id, name, email, region, is_blocked, created_at, removed_at, version) VALUES ('723ef200-95cd-5f82-b249-9381e6542ea4', 'c27464aa-8037-5d2a-ab07-414d0757352f', 'Gil', 'gil@short.example', 'nam', false, '2025-03-08 12:48:16.205823+00', '2025-03-28 02:38:47.926389+00', 2);
INSERT INTO public.compliance_agent (id, account_id, name, email, region, is_blocked, created_at, removed_at, version) VALUES ('8a0ed482-4ea3-5af9-85a8-d4243b4e57f7', 'c27464aa-8037-5d2a-ab07-414d0757352f', 'Hal', 'hal@short.example', 'nam', true, '2025-03-11 07:55:29.308761+00', '2025-03-30 21:46:01.029327+00', 3);
INSERT INTO public.compliance_agent (id, account_id, name, email, region, is_blocked, created_at, removed_at, version) VALUES ('952fe5e8-3d12-53ec-8a7f-f0a09f50c53f', '9b258faf-9334-5600-a66a-a51830b2aab0', 'Ivy', 'ivy@green.example', 'nam', false, '2025-03-19 17:17:08.617575+00', '2025-03-22 12:24:21.720513+00', 2);
INSERT INTO public.compliance_agent (id, account_id, name, email, region, is_blocked, created_at, removed_at, version) VALUES ('a0c23669-2404-56bb-9f9f-550f94d00918', '9b258faf-9334-5600-a66a-a51830b2aab0', 'Cy', 'cy@green.example', 'nam', true, '2025-02-08 13:36:05.176443+00', NULL, 2);
INSERT INTO public.compliance_agent (id, account_id, name, email, region, is_blocked, created_at, removed_at, version) VALUES ('a2d7f8aa-9d9c-580a-91f9-1de54a98985a', '78e114b5-8fb6-5948-b203-c434922a2ab9', 'Fay', 'fay@grey.example', 'emea', false, '2025-02-16 22:57:44.485257+00', NULL, 3);
INSERT INTO public.compliance_agent (id, account_id, name, email, region, is_blocked, created_at, removed_at, version) VALUES ('c2b1b076-ed26-5c6d-a436-5799a3bffb0f', '12b71629-2aa6-5a4b-b507-0ad37d4b3874', 'Anna', 'anna@blue.example', 'emea', false, '2025-02-02 23:21:38.970567+00', NULL, 3);
INSERT INTO public.compliance_agent (id, account_id, name, email, region, is_blocked, created_at, removed_at, version) VALUES ('c53cd801-564b-5a3b-a4ad-566706210bb5', '90ba8871-d097-5b45-9af2-9b32c81f6a7c', 'Eli', 'eli@red.example', 'apac', true, '2025-02-14 03:50:31.382319+00', NULL, 2);
INSERT INTO public.compliance_agent (id, account_id, name, email, region, is_blocked, created_at, removed_at, version) VALUES ('d90884a5-86d3-5db2-b537-4e7eeb02e3e2', '90ba8871-d097-5b45-9af2-9b32c81f6a7c', 'Dov Ünal', 'dov@red.example', 'apac', false, '2025-02-11 08:43:18.279381+00', NULL, 3);


--
-- Data for Name: compliance_request; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.compliance_request (id, number, agent_id, action, reason, requested_by, fingerprint, requested_at, state, detail, attempts, due_at, sent_at, answered_at) OVERRIDING SYSTEM VALUE VALUES ('5d455bc7-0cec-5352-98ab-994179ba8d28', 1, 'c53cd801-564b-5a3b-a4ad-566706210bb5', 'block', 'complaints', 'boss', '746ef7f86fceba4d456ca3bc48bd0434', '2025-04-19 11:36:30.252893+00', 'done', NULL, 1, '2025-04-19 11:36:30.749893+00', '2025-04-19 11:36:31.750893+00', '2025-04-19 11:36:32.751127+00');
INSERT INTO public.compliance_request (id, number, agent_id, action, reason, requested_by, fingerprint, requested_at, state, detail, attempts, due_at, sent_at, answered_at) OVERRIDING SYSTEM VALUE VALUES ('459f3a5c-dec8-521d-bc55-1427a314c4fb', 2, 'a0c23669-2404-56bb-9f9f-550f94d00918', 'block', NULL, 'boss', 'ca97c26a8fe812c5db8342552a4c8e60', '2025-04-19 11:36:30.255893+00', 'unchanged', NULL, 1, '2025-04-19 11:36:30.749893+00', '2025-04-19 11:36:31.751893+00', '2025-04-19 11:36:32.752361+00');
INSERT INTO public.compliance_request (id, number, agent_id, action, reason, requested_by, fingerprint, requested_at, state, detail, attempts, due_at, sent_at, answered_at) OVERRIDING SYSTEM VALUE VALUES ('db0d1e03-6bf5-5bf9-b643-844fe7df62b1', 3, 'a2d7f8aa-9d9c-580a-91f9-1de54a98985a', 'unblock', 'settled', 'boss', '239f1922d638a2e790d5274943d90ef3', '2025-04-22 06:43:43.361831+00', 'done', NULL, 1, '2025-04-22 06:43:43.852831+00', '2025-04-22 06:43:44.855831+00', '2025-04-22 06:43:45.856533+00');
INSERT INTO public.compliance_request (id, number, agent_id, action, reason, requested_by, fingerprint, requested_at, state, detail, attempts, due_at, sent_at, answered_at) OVERRIDING SYSTEM VALUE VALUES ('88d7ad09-e6b7-5ad8-9855-9fdd931d08ca', 4, '834e9a5e-565b-5241-9d96-52f3b96f6662', 'block', NULL, 'boss', '9e5cd57970d9425cdfecfb888c2bde5a', '2025-04-22 06:43:43.364831+00', 'refused', 'Agent 834e9a5e-565b-5241-9d96-52f3b96f6662 not found', 1, '2025-04-22 06:43:43.852831+00', '2025-04-22 06:43:44.856831+00', '2025-04-22 06:43:45.857767+00');
INSERT INTO public.compliance_request (id, number, agent_id, action, reason, requested_by, fingerprint, requested_at, state, detail, attempts, due_at, sent_at, answered_at) OVERRIDING SYSTEM VALUE VALUES ('36b7b0b9-40a8-55a0-abd2-5172abbc9ac3', 5, '72166ff3-9d0c-5f14-9dc2-f25a5d7b2b09', 'block', 'asked for while nobody took commands', 'boss', '41cdb74b31c0132a3ed83c6eb309363a', '2025-04-22 06:43:43.367831+00', 'waiting', NULL, 0, '2025-04-22 06:43:43.852831+00', NULL, NULL);


--
-- Data for Name: discarded_event; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: parked_event; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: parked_stream; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: projection_attempt; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.projection_attempt (projector, partition, first_position, last_position, attempts) VALUES ('billing', 0, 1, 36, 1);
INSERT INTO public.projection_attempt (projector, partition, first_position, last_position, attempts) VALUES ('vip_customers', 0, 1, 36, 1);
INSERT INTO public.projection_attempt (projector, partition, first_position, last_position, attempts) VALUES ('compliance', 0, 1, 36, 1);
INSERT INTO public.projection_attempt (projector, partition, first_position, last_position, attempts) VALUES ('read_model_sync', 0, 1, 36, 1);


--
-- Data for Name: projection_checkpoint; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.projection_checkpoint (projector, partition, "position", parked_streams) VALUES ('billing', 0, 36, 0);
INSERT INTO public.projection_checkpoint (projector, partition, "position", parked_streams) VALUES ('vip_customers', 0, 36, 0);
INSERT INTO public.projection_checkpoint (projector, partition, "position", parked_streams) VALUES ('compliance', 0, 36, 0);
INSERT INTO public.projection_checkpoint (projector, partition, "position", parked_streams) VALUES ('read_model_sync', 0, 36, 0);


--
-- Data for Name: vip_account; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.vip_account (id, region, opened_at, closed_at) VALUES ('12b71629-2aa6-5a4b-b507-0ad37d4b3874', 'emea', '2025-01-22 18:52:46.558815+00', NULL);
INSERT INTO public.vip_account (id, region, opened_at, closed_at) VALUES ('90ba8871-d097-5b45-9af2-9b32c81f6a7c', 'apac', '2025-01-28 09:07:12.764691+00', NULL);
INSERT INTO public.vip_account (id, region, opened_at, closed_at) VALUES ('7c366a86-4780-54c1-98ea-448c4f6c97f0', 'nam', '2025-04-02 16:53:14.132265+00', NULL);
INSERT INTO public.vip_account (id, region, opened_at, closed_at) VALUES ('c27464aa-8037-5d2a-ab07-414d0757352f', 'nam', '2025-03-05 17:41:03.102885+00', '2025-03-25 07:31:34.823451+00');


--
-- Data for Name: vip_agent; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.vip_agent (id, account_id, region, created_at, removed_at, usage, version) VALUES ('5be7b375-b26a-561b-88eb-d9fa55179d82', '7c366a86-4780-54c1-98ea-448c4f6c97f0', 'nam', '2025-04-05 12:00:27.235203+00', NULL, '{["2025-04-05 12:00:27.235203+00",)}', 1);
INSERT INTO public.vip_agent (id, account_id, region, created_at, removed_at, usage, version) VALUES ('72166ff3-9d0c-5f14-9dc2-f25a5d7b2b09', '12b71629-2aa6-5a4b-b507-0ad37d4b3874', 'emea', '2025-02-05 18:28:52.073505+00', NULL, '{["2025-02-05 18:28:52.073505+00",)}', 1);
INSERT INTO public.vip_agent (id, account_id, region, created_at, removed_at, usage, version) VALUES ('723ef200-95cd-5f82-b249-9381e6542ea4', 'c27464aa-8037-5d2a-ab07-414d0757352f', 'nam', '2025-03-08 12:48:16.205823+00', '2025-03-28 02:38:47.926389+00', '{["2025-03-08 12:48:16.205823+00","2025-03-28 02:38:47.926389+00")}', 2);
INSERT INTO public.vip_agent (id, account_id, region, created_at, removed_at, usage, version) VALUES ('8a0ed482-4ea3-5af9-85a8-d4243b4e57f7', 'c27464aa-8037-5d2a-ab07-414d0757352f', 'nam', '2025-03-11 07:55:29.308761+00', '2025-03-30 21:46:01.029327+00', '{["2025-03-11 07:55:29.308761+00","2025-03-14 03:02:42.411699+00")}', 3);
INSERT INTO public.vip_agent (id, account_id, region, created_at, removed_at, usage, version) VALUES ('c2b1b076-ed26-5c6d-a436-5799a3bffb0f', '12b71629-2aa6-5a4b-b507-0ad37d4b3874', 'emea', '2025-02-02 23:21:38.970567+00', NULL, '{["2025-02-02 23:21:38.970567+00","2025-02-22 13:12:10.691133+00"),["2025-02-25 08:19:23.794071+00",)}', 3);
INSERT INTO public.vip_agent (id, account_id, region, created_at, removed_at, usage, version) VALUES ('c53cd801-564b-5a3b-a4ad-566706210bb5', '90ba8871-d097-5b45-9af2-9b32c81f6a7c', 'apac', '2025-02-14 03:50:31.382319+00', NULL, '{["2025-02-14 03:50:31.382319+00","2025-04-19 11:36:32.749893+00")}', 2);
INSERT INTO public.vip_agent (id, account_id, region, created_at, removed_at, usage, version) VALUES ('d90884a5-86d3-5db2-b537-4e7eeb02e3e2', '90ba8871-d097-5b45-9af2-9b32c81f6a7c', 'apac', '2025-02-11 08:43:18.279381+00', NULL, '{["2025-02-11 08:43:18.279381+00","2025-02-28 03:26:36.897009+00"),["2025-04-08 07:07:40.338141+00",)}', 3);


--
-- Data for Name: yoyo_lock; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Name: compliance_request_number_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.compliance_request_number_seq', 10, true);


--
-- Name: _yoyo_log _yoyo_log_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public._yoyo_log
    ADD CONSTRAINT _yoyo_log_pkey PRIMARY KEY (id);


--
-- Name: _yoyo_migration _yoyo_migration_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public._yoyo_migration
    ADD CONSTRAINT _yoyo_migration_pkey PRIMARY KEY (migration_hash);


--
-- Name: _yoyo_version _yoyo_version_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public._yoyo_version
    ADD CONSTRAINT _yoyo_version_pkey PRIMARY KEY (version);


--
-- Name: account account_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.account
    ADD CONSTRAINT account_pkey PRIMARY KEY (id);


--
-- Name: agent agent_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.agent
    ADD CONSTRAINT agent_pkey PRIMARY KEY (id);


--
-- Name: billing_account billing_account_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.billing_account
    ADD CONSTRAINT billing_account_pkey PRIMARY KEY (id);


--
-- Name: billing_agent billing_agent_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.billing_agent
    ADD CONSTRAINT billing_agent_pkey PRIMARY KEY (id);


--
-- Name: buy_order buy_order_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.buy_order
    ADD CONSTRAINT buy_order_pkey PRIMARY KEY (id);


--
-- Name: compliance_agent compliance_agent_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.compliance_agent
    ADD CONSTRAINT compliance_agent_pkey PRIMARY KEY (id);


--
-- Name: compliance_request compliance_request_number_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.compliance_request
    ADD CONSTRAINT compliance_request_number_key UNIQUE (number);


--
-- Name: compliance_request compliance_request_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.compliance_request
    ADD CONSTRAINT compliance_request_pkey PRIMARY KEY (id);


--
-- Name: discarded_event discarded_event_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.discarded_event
    ADD CONSTRAINT discarded_event_pkey PRIMARY KEY (projector, partition, "position");


--
-- Name: parked_event parked_event_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.parked_event
    ADD CONSTRAINT parked_event_pkey PRIMARY KEY (projector, partition, "position");


--
-- Name: parked_stream parked_stream_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.parked_stream
    ADD CONSTRAINT parked_stream_pkey PRIMARY KEY (projector, stream_id);


--
-- Name: projection_attempt projection_attempt_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.projection_attempt
    ADD CONSTRAINT projection_attempt_pkey PRIMARY KEY (projector, partition);


--
-- Name: projection_checkpoint projection_checkpoint_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.projection_checkpoint
    ADD CONSTRAINT projection_checkpoint_pkey PRIMARY KEY (projector, partition);


--
-- Name: vip_account vip_account_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.vip_account
    ADD CONSTRAINT vip_account_pkey PRIMARY KEY (id);


--
-- Name: vip_agent vip_agent_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.vip_agent
    ADD CONSTRAINT vip_agent_pkey PRIMARY KEY (id);


--
-- Name: yoyo_lock yoyo_lock_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.yoyo_lock
    ADD CONSTRAINT yoyo_lock_pkey PRIMARY KEY (locked);


--
-- Name: account_client_name_id_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX account_client_name_id_idx ON public.account USING btree (client, name, id) WHERE (closed_at IS NULL);


--
-- Name: account_name_id_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX account_name_id_idx ON public.account USING btree (name, id) WHERE (closed_at IS NULL);


--
-- Name: agent_account_id_name_id_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX agent_account_id_name_id_idx ON public.agent USING btree (account_id, name, id) WHERE (removed_at IS NULL);


--
-- Name: agent_client_name_id_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX agent_client_name_id_idx ON public.agent USING btree (client, name, id) WHERE (removed_at IS NULL);


--
-- Name: agent_lower_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX agent_lower_idx ON public.agent USING btree (lower(email)) WHERE (removed_at IS NULL);


--
-- Name: agent_name_id_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX agent_name_id_idx ON public.agent USING btree (name, id) WHERE (removed_at IS NULL);


--
-- Name: billing_agent_account_id_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX billing_agent_account_id_idx ON public.billing_agent USING btree (account_id);


--
-- Name: buy_order_client_placed_at_id_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX buy_order_client_placed_at_id_idx ON public.buy_order USING btree (client, placed_at, id);


--
-- Name: buy_order_placed_at_id_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX buy_order_placed_at_id_idx ON public.buy_order USING btree (placed_at, id);


--
-- Name: compliance_agent_account_id_lower_id_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX compliance_agent_account_id_lower_id_idx ON public.compliance_agent USING btree (account_id, lower(name) COLLATE "C", id) WHERE (removed_at IS NULL);


--
-- Name: compliance_agent_lower_id_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX compliance_agent_lower_id_idx ON public.compliance_agent USING btree (lower(name) COLLATE "C", id) WHERE (removed_at IS NULL);


--
-- Name: compliance_agent_lower_id_idx1; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX compliance_agent_lower_id_idx1 ON public.compliance_agent USING btree (lower(name) COLLATE "C", id) WHERE (is_blocked AND (removed_at IS NULL));


--
-- Name: compliance_agent_lower_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX compliance_agent_lower_idx ON public.compliance_agent USING btree (lower(email)) WHERE (removed_at IS NULL);


--
-- Name: compliance_request_agent_id_number_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX compliance_request_agent_id_number_idx ON public.compliance_request USING btree (agent_id, number) WHERE (answered_at IS NULL);


--
-- Name: compliance_request_due_at_number_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX compliance_request_due_at_number_idx ON public.compliance_request USING btree (due_at, number) WHERE (answered_at IS NULL);


--
-- Name: one_billing_per_store; Type: INDEX; Schema: public; Owner: -
--

CREATE UNIQUE INDEX one_billing_per_store ON public.projection_checkpoint USING btree (partition) WHERE starts_with(projector, 'billing'::text);


--
-- Name: parked_event_projector_stream_id_position_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX parked_event_projector_stream_id_position_idx ON public.parked_event USING btree (projector, stream_id, "position");


--
-- Name: parked_stream_projector_partition_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX parked_stream_projector_partition_idx ON public.parked_stream USING btree (projector, partition);


--
-- Name: parked_event parked_event_projector_stream_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.parked_event
    ADD CONSTRAINT parked_event_projector_stream_id_fkey FOREIGN KEY (projector, stream_id) REFERENCES public.parked_stream(projector, stream_id);


--
-- Name: TABLE account; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.account TO query_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.account TO projector;


--
-- Name: TABLE agent; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.agent TO query_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.agent TO projector;


--
-- Name: TABLE billing_account; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.billing_account TO query_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.billing_account TO projector;


--
-- Name: TABLE billing_agent; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.billing_agent TO query_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.billing_agent TO projector;


--
-- Name: TABLE buy_order; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.buy_order TO query_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.buy_order TO projector;


--
-- Name: TABLE compliance_agent; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.compliance_agent TO query_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.compliance_agent TO projector;


--
-- Name: TABLE compliance_request; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.compliance_request TO query_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.compliance_request TO projector;


--
-- Name: TABLE discarded_event; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.discarded_event TO query_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.discarded_event TO projector;


--
-- Name: TABLE parked_event; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.parked_event TO query_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.parked_event TO projector;


--
-- Name: TABLE parked_stream; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.parked_stream TO query_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.parked_stream TO projector;


--
-- Name: TABLE projection_attempt; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.projection_attempt TO query_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.projection_attempt TO projector;


--
-- Name: TABLE projection_checkpoint; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.projection_checkpoint TO query_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.projection_checkpoint TO projector;


--
-- Name: TABLE vip_account; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.vip_account TO query_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.vip_account TO projector;


--
-- Name: TABLE vip_agent; Type: ACL; Schema: public; Owner: -
--

GRANT SELECT ON TABLE public.vip_agent TO query_service;
GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.vip_agent TO projector;


--
-- Name: DEFAULT PRIVILEGES FOR TABLES; Type: DEFAULT ACL; Schema: -; Owner: -
--

ALTER DEFAULT PRIVILEGES FOR ROLE orderly GRANT SELECT ON TABLES  TO query_service;
ALTER DEFAULT PRIVILEGES FOR ROLE orderly GRANT SELECT,INSERT,DELETE,UPDATE ON TABLES  TO projector;


--
-- PostgreSQL database dump complete
--


