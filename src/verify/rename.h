/* rename.h - renaming by pattern; internal. */
#ifndef FDM_VERIFY_RENAME_H
#define FDM_VERIFY_RENAME_H

#include "base/base.h"

/* *out = the name that the first matching rule of "FROM=TO,FROM=TO" gives, else a copy of `name`; malloc'ed.  In FROM
 * each * stands for any text (as little as possible, from the left), ? for one character; each * of TO stands for the
 * text of FROM's * in the same place.  Errors: FDM_BAD_USAGE (no '=', more * in TO than in FROM), FDM_NO_RESOURCE. */
fdm_status fdm_rename(char **out, const char *rules, const char *name, fdm_error *err);
/* Whether the rules are well formed: FDM_OK or FDM_BAD_USAGE; NULL is. */
fdm_status fdm_rename_check(const char *rules, fdm_error *err);

#endif
