"""The acceptance tests of the embedded system, as they are, through the cluster's gateway.

Left out are those that choose a process's environment, which a container has already, and one that
sends a NUL in a path, which does not get past the gateway.
"""

from tests.acceptance.test_accidents import (  # noqa: F401 - pytest collects what is here
    test_a_stop_under_load_finishes_what_it_began,
    test_every_service_stops_when_it_is_told_to,
    test_killing_everything_in_turn_under_load_loses_nothing,
    test_the_broker_going_away_and_coming_back,
)
from tests.acceptance.test_accounts import (  # noqa: F401 - pytest collects what is here
    known,
    test_a_bad_field_is_named_and_not_repeated,
    test_a_bad_header_is_named,
    test_a_key_that_stands_for_something_else_is_refused,
    test_a_late_repeat_does_not_undo_what_came_after_it,
    test_a_page_of_another_site_may_not_send_commands,
    test_an_account_is_opened_and_closed_as_the_contract_says,
    test_closing_an_account_takes_all_its_agents_while_others_join,
    test_every_command_can_be_repeated_and_happens_once,
    test_ids_of_accounts_and_agents_are_ids,
    test_large_bodies_and_other_types_are_refused,
    test_one_email_belongs_to_one_agent_but_an_account_may_have_it_too,
    test_two_hundred_openings_with_one_email_in_four_processes_are_one_account,
    test_what_is_no_json_object_is_refused,
)
from tests.acceptance.test_buy_orders import (  # noqa: F401 - pytest collects what is here
    test_a_hundred_concurrent_puts_with_one_key_are_one_order,
    test_a_key_with_other_content_is_refused_and_changes_nothing,
    test_bad_input_is_named_and_never_echoed,
    test_numbers_are_taken_when_they_are_read_exactly,
    test_pages_refuse_what_they_cannot_know,
    test_paging_shows_each_order_once_while_others_are_placed,
    test_the_database_going_away_is_a_503_and_heals_unaided,
    test_the_key_may_come_by_header,
)
from tests.integration.test_broker import (  # noqa: F401 - pytest collects what is here
    test_a_message_that_is_given_back_again_and_again_stays,
)
