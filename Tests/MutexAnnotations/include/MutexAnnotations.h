// Nothing to call: linking the target is what it takes (MutexAnnotations.c).
#pragma once
