// The page for addresses that lead nowhere: its words in the reader's language.
import { lang, t } from './i18n.js';

document.documentElement.lang = lang() === 'zh' ? 'zh-CN' : 'en';
for (const el of document.querySelectorAll('[data-words]')) el.textContent = t(el.dataset.words);
document.title = `${t('notfound.title')} – chiasm`;
