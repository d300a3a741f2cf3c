"""The threads for what blocks, and who waits for one."""

import asyncio
import threading

from airflow_provider_claid.delivery.threads import WIDTH, in_thread


def test_who_has_no_thread_yet_is_not_handed_over_and_can_still_leave():
    released, begun = threading.Event(), []

    def work(number):
        begun.append(number)
        released.wait(60)
        return number

    async def main():
        tasks = [asyncio.create_task(in_thread(work, number)) for number in range(WIDTH + 3)]
        async with asyncio.timeout(60):
            while len(begun) < WIDTH:
                await asyncio.sleep(0.001)
        tasks[WIDTH].cancel()
        released.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(main())
    assert isinstance(results.pop(WIDTH), asyncio.CancelledError)
    assert results == sorted(begun) == [*range(WIDTH), WIDTH + 1, WIDTH + 2]


def test_each_loop_takes_turns_of_its_own():
    async def crowd():
        return await asyncio.gather(*(in_thread(int, number) for number in range(3 * WIDTH)))

    assert asyncio.run(crowd()) == asyncio.run(crowd()) == [*range(3 * WIDTH)]


def test_the_turn_is_passed_on_after_an_error():
    async def main():
        failures = await asyncio.gather(*(in_thread(int, "x") for _ in range(2 * WIDTH)), return_exceptions=True)
        return failures, await in_thread(int, "1")

    failures, one = asyncio.run(main())
    assert {type(failure) for failure in failures} == {ValueError}
    assert one == 1
