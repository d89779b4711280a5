import { testRoughPaths } from '../daemon/support/rough-paths.js';

testRoughPaths('the library', 'library');
