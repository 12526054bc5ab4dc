/* log.h - one line per event: "level event key=value ..." on stderr.
 * Libraries return errors; programs log them, once. Nothing is logged per token. The level is the
 * one global of the program, set once before other threads start. */
#pragma once

enum log_level { LOG_LEVEL_NONE, LOG_LEVEL_ERR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Before start only. Default LOG_LEVEL_WARN. */
void log_set_level(enum log_level level);
enum log_level log_level(void);

/* event: a greppable dotted id ("member.lost"); fmt: key=value pairs with units. Any thread. */
void log_event(enum log_level level, const char *event, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));

#define LOG_ERR(event, ...) log_event(LOG_LEVEL_ERR, event, __VA_ARGS__)
#define LOG_WARN(event, ...) log_event(LOG_LEVEL_WARN, event, __VA_ARGS__)
#define LOG_INFO(event, ...) log_event(LOG_LEVEL_INFO, event, __VA_ARGS__)
#define LOG_DEBUG(event, ...) log_event(LOG_LEVEL_DEBUG, event, __VA_ARGS__)
