/* Whether a process of this machine is dead, told by the text that it left. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/common/common.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* A child that has told who it is, and waits to be killed. */
static pid_t start_child(char ret[HK_WHO_MAX])
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        char who[HK_WHO_MAX] = "";
        hk_who_self(who);
        (void)!write(fds[1], who, sizeof who);
        for (;;)
            (void)pause();
    }
    assert_int_equal(read(fds[0], ret, HK_WHO_MAX), HK_WHO_MAX);
    (void)close(fds[0]);
    (void)close(fds[1]);
    return pid;
}

static void test_who_lives_is_not_dead(void **state)
{
    char self[HK_WHO_MAX], other[HK_WHO_MAX];
    (void)state;
    hk_who_self(self);
    assert_false(hk_who_is_dead(self));
    pid_t pid = start_child(other);
    assert_string_not_equal(self, other);
    assert_false(hk_who_is_dead(other));
    assert_int_equal(kill(pid, SIGSTOP), 0);
    assert_false(hk_who_is_dead(other));
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_who_was_killed_is_dead_before_and_after_its_parent_asks(void **state)
{
    char other[HK_WHO_MAX];
    siginfo_t info;
    (void)state;
    pid_t pid = start_child(other);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    assert_true(hk_who_is_dead(other));
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_true(hk_who_is_dead(other));
}

static void test_a_number_that_is_used_again_is_another_process(void **state)
{
    char self[HK_WHO_MAX], other[HK_WHO_MAX + 8];
    (void)state;
    hk_who_self(self);
    (void)snprintf(other, sizeof other, "%s1", self);
    assert_true(hk_who_is_dead(other));
}

static void test_of_other_machines_and_containers_nothing_is_said(void **state)
{
    char self[HK_WHO_MAX], other[HK_WHO_MAX + 16];
    (void)state;
    hk_who_self(self);
    const char *behind_boot = strchr(self, ' ');
    assert_non_null(behind_boot);
    const char *behind_space = strchr(behind_boot + 1, ' ');
    assert_non_null(behind_space);
    (void)snprintf(other, sizeof other, "otherboot%s1", behind_boot);
    assert_false(hk_who_is_dead(other));
    (void)snprintf(other, sizeof other, "%.*s pid:[1]%s1", (int)(behind_boot - self), self,
                   behind_space);
    assert_false(hk_who_is_dead(other));
    assert_false(hk_who_is_dead(""));
    assert_false(hk_who_is_dead("? ? 1 0"));
    assert_false(hk_who_is_dead("nonsense"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_lives_is_not_dead),
        cmocka_unit_test(test_who_was_killed_is_dead_before_and_after_its_parent_asks),
        cmocka_unit_test(test_a_number_that_is_used_again_is_another_process),
        cmocka_unit_test(test_of_other_machines_and_containers_nothing_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
